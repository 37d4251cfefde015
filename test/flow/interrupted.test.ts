import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* The command ended by somebody else: what it held is released, by itself or by whoever comes next. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
let session: LabSession

beforeAll(async () => {
  session = await openLabSession()
  await session.json(['backup', 'web01', '--init', '--mode', 'full'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
afterEach(async () => {
  await session.lab.control.clearFaults()
})

const snapshotsOfOurs = async (): Promise<number> =>
  (await session.lab.control.state()).vms.flatMap((vm) => vm.snapshots).filter((snapshot) => snapshot.name.includes('vcb-proxy')).length

const points = async (): Promise<number> => (await session.json(['points'])).points.length

/** A backup over a slow network, as a process of its own, stopped in the middle of its reads by `signal`. */
async function backupUntil(signal: NodeJS.Signals): Promise<{ readonly child: ChildProcess; readonly out: string; readonly err: string }> {
  await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 400 })
  const child = spawn(process.execPath, [COMMAND, 'backup', 'web01', '--mode', 'full', '--transport', 'https'], {
    env: { ...process.env, ...session.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const exited = once(child, 'exit')
  for (let waited = 0; (await snapshotsOfOurs()) === 0; waited += 50) {
    if (waited > 30_000 || child.exitCode !== null) throw new Error(`the backup took no snapshot: ${err}`)
    await systemClock.sleep(50)
  }
  await systemClock.sleep(1000)
  child.kill(signal)
  await exited
  return { child, out, err }
}

describe('a backup that is', () => {
  test.each(['SIGINT', 'SIGTERM'] as const)('stopped by %s releases everything and ends with 11', async (signal) => {
    const before = await points()
    const { child, out } = await backupUntil(signal)
    expect(child.exitCode, out).toBe(11)
    expect(out).toContain(signal)
    expect(await points()).toBe(before)
    await session.expectClean()
  })

  test('killed is found by "vcb recover", which releases its snapshot and lock', async () => {
    const before = await points()
    const { child } = await backupUntil('SIGKILL')
    expect(child.signalCode).toBe('SIGKILL')
    expect(await snapshotsOfOurs()).toBe(1)
    const report = await session.json(['recover'])
    const claims = report.recovered.flatMap((job: Json) => job.claims)
    expect(claims.map((claim: Json) => claim.kind).sort()).toEqual(['repositoryWrite', 'snapshot', 'vmLock'])
    expect(claims.every((claim: Json) => claim.result !== 'kept')).toBe(true)
    expect(await snapshotsOfOurs()).toBe(0)
    expect(await points()).toBe(before)
    expect((await session.json(['recover'])).recovered).toEqual([])
  })

  test('killed is recovered by the next backup before it starts', async () => {
    await backupUntil('SIGKILL')
    await session.lab.control.clearFaults()
    const run = await session.json(['backup', 'web01'])
    expect(run.vms[0].ok).toBe(true)
    expect((await session.json(['check'])).problems).toEqual([])
    await session.expectClean()
  })
})
