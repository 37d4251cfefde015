import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* The wall clock of the proxy steps by hours and years while vcb works: as after a battery failure, a resumed VM, or a wrong time server. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
const PRELOAD = pathToFileURL(join(import.meta.dirname, 'step-clock.ts')).href
const YEAR = 365 * 24 * 3_600_000

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({
    scenario: {
      name: 'clock',
      recordDigests: true,
      datacenters: [
        {
          name: 'DC',
          clusters: [{ name: 'C', hosts: [{ name: 'esx1.lab' }] }],
          datastores: [{ name: 'ds1', type: 'VMFS6' }],
          vms: [{ name: 'one', power: 'poweredOn', changeTracking: true, disks: [{ size: '8MiB', content: 'random' }] }],
        },
      ],
    },
  })
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

function stepping(first: number, ...argv: readonly string[]) {
  const child = spawn(process.execPath, ['--import', PRELOAD, COMMAND, ...argv], {
    env: { ...process.env, ...session.environment, STEP_FIRST: String(first) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  return { child, out: () => out, err: () => err, ended: once(child, 'close') }
}
const ours = async (): Promise<number> => (await session.lab.control.state()).vms.flatMap((vm) => vm.snapshots).length

describe('clock stepping', () => {
  test('a backup whose wall clock steps a year back and forth succeeds and leaves nothing', async () => {
    await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 300 })
    const { ended, out, err, child } = stepping(0, 'backup', 'one', '--mode', 'full', '--transport', 'https', '--json')
    await ended
    await session.lab.control.clearFaults()
    expect(child.exitCode, out() + err()).toBe(0)
    const [vm] = JSON.parse(out()).vms
    expect(vm.ok).toBe(true)
    // Durations come from a clock that never steps.
    expect(vm.snapshotLifetimeMs).toBeGreaterThan(0)
    expect(vm.snapshotLifetimeMs).toBeLessThan(10 * 60_000)
    await session.expectClean()
  })

  test.each([
    ['a year ahead', YEAR],
    ['a year behind', -YEAR],
  ])('a backup killed with a wall clock %s of ours is known as dead, shown with a sound age, and recovered', async (_name, first) => {
    await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 1500 })
    const { child, ended, err } = stepping(first, 'backup', 'one', '--mode', 'full', '--transport', 'https')
    for (let waited = 0; (await ours()) === 0; waited += 25) {
      if (waited > 40_000 || child.exitCode !== null) throw new Error(`no snapshot: ${err()}`)
      await systemClock.sleep(25)
    }
    // While it lives, nobody takes what it holds, whatever the clocks say.
    const living = await session.json(['recover'])
    expect(living.recovered).toEqual([])
    expect((await session.json(['status'])).running.length).toBe(2)
    child.kill('SIGKILL')
    await ended
    await session.lab.control.clearFaults()
    const status = await session.json(['status'], 12)
    expect(status.leftOver.every((job: Json) => job.ageMs >= 0)).toBe(true)
    await session.json(['recover'])
    expect(await ours()).toBe(0)
    await session.expectClean()
  })

  test('jobs are listed in the order they began, not by their times', async () => {
    const finished = (await session.json(['status', '--all'])).finished.filter((job: Json) => job.kind === 'run')
    expect(finished.map((job: Json) => job.outcome.result)).toEqual(['recovered', 'recovered', 'succeeded'])
  })
})
