import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import type { FaultRule } from '../../src/lab/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* A command that is told to end: by a signal, by "vcb cancel", in the middle of anything. What it held is released in order or listed. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')

const vm = (name: string): object => ({ name, power: 'poweredOn', changeTracking: true, disks: [{ size: '8MiB', content: 'random' }] })
const SCENARIO = {
  name: 'cancel',
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      clusters: [{ name: 'C', hosts: [{ name: 'esx1.lab' }] }],
      datastores: [{ name: 'ds1', type: 'VMFS6' }],
      vms: ['one', 'two', 'three'].map(vm),
    },
  ],
}

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario: SCENARIO })
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
afterEach(async () => {
  await session.lab.control.clearFaults()
  // A failing test must not take the next ones down with what it left.
  await until('the running tasks', async () => (await running()).length === 0)
  await session.vcb('recover')
})

const fault = (rule: FaultRule): Promise<string> => session.lab.control.fault(rule)
const running = async (): Promise<string[]> => (await session.lab.control.state()).tasks.map((task) => task.name)
const snapshotsOf = async (...names: readonly string[]): Promise<number> =>
  (await session.lab.control.state()).vms
    .filter((each) => names.includes(each.name))
    .flatMap((each) => each.snapshots)
    .filter((snapshot) => snapshot.name.startsWith('vcb-proxy ')).length

async function until(what: string, met: () => Promise<boolean>): Promise<void> {
  for (let waited = 0; !(await met()); waited += 25) {
    if (waited > 40_000) throw new Error(`${what}: waited in vain`)
    await systemClock.sleep(25)
  }
}

type Command = {
  readonly child: ChildProcess
  readonly out: () => string
  readonly err: () => string
  /** Exit status, or the name of the signal. */
  readonly ended: Promise<number | string>
}

function start(...argv: readonly string[]): Command {
  const child = spawn(process.execPath, [COMMAND, ...argv], {
    env: { ...process.env, ...session.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const ended = once(child, 'exit').then(([code, signal]: unknown[]) => (typeof code === 'number' ? code : String(signal)))
  return { child, out: () => out, err: () => err, ended }
}

/** The moments at which a backup of `one` is told to end, each made to last. */
const MOMENTS: readonly (readonly [string, readonly FaultRule[], () => Promise<boolean>])[] = [
  [
    'while the snapshot is made',
    [{ on: 'CreateSnapshotEx_Task', taskMs: 20_000 }],
    async () => (await running()).includes('CreateSnapshotEx_Task'),
  ],
  ['while the disk is read', [{ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 1500 }], async () => (await snapshotsOf('one')) === 1],
  [
    'while the snapshot is removed',
    [{ on: 'RemoveSnapshot_Task', taskMs: 1500 }],
    async () => (await running()).includes('RemoveSnapshot_Task'),
  ],
]

describe.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s', (signal) => {
  test.each(MOMENTS)('%s: everything is released in order', async (_name, rules, moment) => {
    for (const rule of rules) await fault(rule)
    const before = (await session.json(['points'])).points.length
    const { child, ended, out, err } = start('backup', 'one', '--mode', 'full', '--transport', 'https', '--json')
    await until(`the moment to send ${signal}: ${err()}`, async () => child.exitCode !== null || (await moment()))
    if (rules[0]?.on === 'folder:GET') await systemClock.sleep(700)
    child.kill(signal)
    const exit = await ended
    expect(err()).toContain(`${signal} was received; what is held is being released.`)
    const made = (await session.json(['points'])).points.length - before
    if (rules[0]?.on === 'RemoveSnapshot_Task') {
      // The point was complete: it is not taken back, and nothing failed.
      expect({ exit, made, out: out().slice(0, 200) }).toMatchObject({ exit: 0, made: 1 })
    } else {
      expect({ exit, made }).toEqual({ exit: 11, made: 0 })
      expect(JSON.parse(out()).vms[0].error).toMatchObject({ code: 'CANCELED', message: expect.stringContaining(signal) })
      const [job] = (await session.json(['status'])).finished.filter((each: Json) => each.kind === 'backup')
      expect(job).toMatchObject({ subject: 'one', outcome: { result: 'canceled', reason: expect.stringContaining(signal) } })
    }
    await session.expectClean()
  })
})

describe('a second signal', () => {
  test('while the removal of the snapshot hangs ends the waiting at once and says what is still held and how to release it', async () => {
    await fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 1500 })
    await fault({ on: 'RemoveSnapshot_Task', taskMs: 15_000 })
    const { child, ended, out, err } = start('backup', 'one', '--mode', 'full', '--transport', 'https')
    await until(`the snapshot ${err()}`, async () => child.exitCode !== null || (await snapshotsOf('one')) === 1)
    await systemClock.sleep(700)
    child.kill('SIGINT')
    await systemClock.sleep(500)
    await until('the removal', async () => (await running()).includes('RemoveSnapshot_Task'))
    const since = systemClock.monotonicMs()
    child.kill('SIGINT')
    expect(await ended, out() + err()).toBe(11)
    // The removal itself takes 15 s.
    expect(systemClock.monotonicMs() - since).toBeLessThan(12_000)
    expect(out()).toMatch(/Still held: the snapshot "vcb-proxy \w+" of VM one \(.+\); the lock on VM one \(/)
    expect(out()).toContain('vcb recover')
    const status = await session.json(['status'], 12)
    expect(status.leftOver).toMatchObject([{ kind: 'backup', subject: 'one', outcome: { result: 'canceled' }, held: [{}, {}] }])
    // Recovery waits for the task that runs and finds nothing left to remove.
    const report = await session.json(['recover'])
    expect(report.recovered.flatMap((job: Json) => job.claims).every((claim: Json) => claim.result !== 'kept')).toBe(true)
    await session.expectClean()
  })

  test('while the server does not answer at all ends it as well', async () => {
    await fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 1500 })
    await fault({ on: 'RemoveSnapshot_Task', delayMs: 30_000 })
    const { child, ended, out, err } = start('backup', 'one', '--mode', 'full', '--transport', 'https', '--json')
    await until(`the snapshot ${err()}`, async () => child.exitCode !== null || (await snapshotsOf('one')) === 1)
    child.kill('SIGTERM')
    await systemClock.sleep(500)
    await until('the removal', async () => ((await session.lab.control.faults())[1]?.seen ?? 0) > 0)
    const since = systemClock.monotonicMs()
    child.kill('SIGTERM')
    expect(await ended, out() + err()).toBe(11)
    expect(systemClock.monotonicMs() - since).toBeLessThan(25_000)
    expect(JSON.parse(out()).vms[0].error).toMatchObject({
      code: 'CANCELED',
      next: expect.stringContaining('vcb recover'),
      held: [{ kind: 'snapshot', what: expect.stringMatching(/^the snapshot.* of VM one$/) }, { kind: 'vmLock' }],
    })
    await session.lab.control.clearFaults()
    await session.json(['recover'])
    await session.expectClean()
  })
})

describe('vcb cancel', () => {
  test('of one VM of a run ends that one; the others go on', async () => {
    await fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 600 })
    const { ended, out, err, child } = start(
      'backup',
      'one',
      'two',
      'three',
      '--mode',
      'full',
      '--parallel',
      '3',
      '--transport',
      'https',
      '--json',
    )
    await until(`three snapshots ${err()}`, async () => child.exitCode !== null || (await snapshotsOf('one', 'two', 'three')) === 3)
    const shown = await session.json(['status'])
    expect(shown.running.map((job: Json) => job.subject).sort()).toContain('two')
    expect(shown.running.every((job: Json) => job.pid === child.pid)).toBe(true)
    const answer = await session.json(['cancel', 'two', '--wait'])
    expect(answer.canceled).toMatchObject([{ kind: 'backup', subject: 'two', ended: true, outcome: { result: 'canceled' }, held: 0 }])
    expect(await snapshotsOf('two')).toBe(0)
    expect(await ended, out() + err()).toBe(12)
    const vms = JSON.parse(out()).vms.map((each: Json) => [each.vm.name, each.ok, each.error?.code])
    expect(vms.sort()).toEqual([
      ['one', true, undefined],
      ['three', true, undefined],
      ['two', false, 'CANCELED'],
    ])
    await session.expectClean()
  })

  test('of a VM that waits for its turn ends it before it began', async () => {
    await fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 400 })
    const { ended, out, err, child } = start(
      'backup',
      'one',
      'three',
      '--mode',
      'full',
      '--parallel',
      '1',
      '--transport',
      'https',
      '--json',
    )
    await until(`a snapshot ${err()}`, async () => child.exitCode !== null || (await snapshotsOf('one', 'three')) === 1)
    const waiting = (await snapshotsOf('one')) === 1 ? 'three' : 'one'
    await session.json(['cancel', waiting, '--wait'])
    expect(await ended, out() + err()).toBe(12)
    const outcome = JSON.parse(out()).vms.find((each: Json) => each.vm.name === waiting)
    expect(outcome).toMatchObject({ ok: false, error: { code: 'CANCELED', message: expect.stringContaining('vcb cancel') } })
    expect((await session.lab.control.state()).vms.find((each) => each.name === waiting)?.snapshots).toEqual([])
    await session.expectClean()
  })

  test('of the run ends all of its VMs, and --all whatever runs', async () => {
    for (const how of ['run', 'all'] as const) {
      await fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 600 })
      const { ended, out, err, child } = start('backup', 'one', 'two', '--mode', 'full', '--transport', 'https', '--json')
      await until(`two snapshots ${err()}`, async () => child.exitCode !== null || (await snapshotsOf('one', 'two')) === 2)
      const run = (await session.json(['status'])).running.find((job: Json) => job.kind === 'run').subject
      const answer = await session.json(['cancel', how === 'all' ? '--all' : run, '--wait'])
      expect(answer.canceled).toHaveLength(3)
      expect(await ended, out() + err()).toBe(11)
      expect(JSON.parse(out()).vms.map((each: Json) => each.error.code)).toEqual(['CANCELED', 'CANCELED'])
      await session.lab.control.clearFaults()
      await session.expectClean()
    }
  })

  test('of what does not run says so', async () => {
    expect((await session.vcb('cancel', 'nonesuch')).exit).toBe(5)
    expect((await session.vcb('cancel')).exit).toBe(2)
    expect((await session.json(['cancel', '--all', '--wait'])).canceled).toEqual([])
  })

  test('of a job whose process was killed points to "vcb recover"', async () => {
    await fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 1500 })
    const { child, ended, err } = start('backup', 'one', '--mode', 'full', '--transport', 'https')
    await until(`the snapshot ${err()}`, async () => child.exitCode !== null || (await snapshotsOf('one')) === 1)
    await systemClock.sleep(700)
    child.kill('SIGKILL')
    await ended
    const result = await session.vcb('cancel', 'one')
    expect([result.exit, result.err]).toEqual([6, expect.stringContaining('vcb recover --job ')])
    const status = await session.vcb('status')
    expect(status.exit).toBe(12)
    expect(status.out).toMatch(/Left over\n(.|\n)*holds the snapshot "vcb-proxy \w+" of VM one, for \d+ s/)
    await session.json(['recover'])
    const [job] = (await session.json(['status'])).finished.filter((each: Json) => each.kind === 'backup')
    expect(job.outcome).toEqual({ result: 'recovered', reason: 'The process that ran it ended without closing it.' })
    await session.expectClean()
  })
})

describe('the cancel deadline', () => {
  test('passes while the removal hangs: the command ends with 11, lists what is left, and recovery releases it', async () => {
    await fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 1500 })
    await fault({ on: 'RemoveSnapshot_Task', taskMs: 12_000 })
    const { child, ended, out, err } = start('backup', 'one', '--mode', 'full', '--transport', 'https', '--cancel-deadline', '2s', '--json')
    await until(`the snapshot ${err()}`, async () => child.exitCode !== null || (await snapshotsOf('one')) === 1)
    const since = systemClock.monotonicMs()
    child.kill('SIGTERM')
    expect(await ended, out() + err()).toBe(11)
    expect(systemClock.monotonicMs() - since).toBeLessThan(11_000)
    const { error } = JSON.parse(out()).vms[0]
    expect(error).toMatchObject({ code: 'CANCELED', held: [{ kind: 'snapshot' }, { kind: 'vmLock' }] })
    expect(error.held[0].reason).toContain('It was not released within the 2 s that a cancel waits.')
    const [left] = (await session.json(['status'], 12)).leftOver
    expect(left.held.map((claim: Json) => [claim.kind, claim.attempts])).toEqual([
      ['vmLock', 1],
      ['snapshot', 1],
    ])
    expect(left.held[1].reason).toContain('2 s')
    await session.json(['recover'])
    await session.expectClean()
  })
})
