import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import type { LabState } from '../../src/lab/index.ts'
import { LabProcess } from '../storm/lab-process.ts'
import { openCutProxy } from './cut-proxy.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* A guest is never frozen longer than its limit: ours while we live, the server's time-out afterwards. Five of the server's minutes last 6 s here. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
const SERVER_LIMIT_MS = 6000
const LIMIT_MS = 900
/** What a loaded machine may take from a timer to a call at the other side. */
const TOLERANCE_MS = 4000
/** The same at the server, past whose limit the guest would stay frozen for a quarter of an hour. */
const SERVER_TOLERANCE_MS = 15_000

const vm = (name: string): object => ({
  name,
  datastore: 'ds1',
  guestId: 'debian12_64Guest',
  changeTracking: true,
  workload: 20,
  // The guest itself would hold still for a quarter of an hour: no limit but ours and the server's is at work.
  freezeLimitSeconds: 900,
  disks: [{ size: '64MiB', content: 'random' }],
})
const scenario = {
  name: 'freeze',
  seed: 7,
  quiesceMinuteMs: SERVER_LIMIT_MS / 5,
  datacenters: [
    {
      name: 'DC1',
      hosts: [{ name: 'esx1.lab' }],
      datastores: [{ name: 'ds1', type: 'VMFS6' }],
      vms: ['quiet', 'hangs', 'required', 'stubborn', 'orphan', 'cut'].map(vm),
    },
  ],
}

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario })
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
afterEach(async () => {
  await session.lab.control.clearFaults()
})

const stateOf = (state: LabState, name: string): LabState['vms'][number] => {
  const found = state.vms.find((each) => each.name === name)
  if (found === undefined) throw new Error(`the lab has no VM ${name}`)
  return found
}
const longest = async (name: string): Promise<number> => stateOf(await session.lab.control.state(), name).longestFreezeMs

const backup = (name: string, ...more: readonly string[]): readonly string[] => [
  'backup',
  name,
  '--transport',
  'san',
  '--freeze-limit',
  `${LIMIT_MS}ms`,
  ...more,
]

async function until(what: string, test: () => Promise<boolean>, forMs = 30_000): Promise<void> {
  for (const start = performance.now(); !(await test()); await systemClock.sleep(30))
    if (performance.now() - start > forMs) throw new Error(`waited in vain until ${what}`)
}

function start(
  environment: Record<string, string>,
  argv: readonly string[],
): { readonly child: ChildProcess; readonly said: () => string } {
  let said = ''
  const child = spawn(process.execPath, [COMMAND, ...argv], { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] })
  child.stdout.on('data', (piece: Buffer) => (said += piece.toString()))
  child.stderr.on('data', (piece: Buffer) => (said += piece.toString()))
  return { child, said: () => said }
}

describe('the guest is never frozen longer than its limit', () => {
  test('a guest that behaves is frozen for a moment, and the result says for how long', async () => {
    const run = await session.json(backup('quiet'))
    expect(run.vms[0]).toMatchObject({ ok: true, consistency: 'filesystem' })
    expect(run.vms[0].frozenMs).toBeGreaterThan(0)
    expect(await longest('quiet')).toBeGreaterThan(0)
    expect(await longest('quiet')).toBeLessThanOrEqual(run.vms[0].frozenMs)
    await session.expectClean()
  })

  test('freeze hangs, policy try: the task is canceled at the limit and the snapshot taken without', async () => {
    await session.lab.control.fault({ quiesce: 'hang', object: 'hangs' })
    const run = await session.json(backup('hangs'))
    expect(run.vms[0]).toMatchObject({
      ok: true,
      consistency: 'crash',
      consistencyReason: expect.stringContaining('frozen longer than 0.9 s'),
    })
    const frozen = await longest('hangs')
    expect(frozen).toBeGreaterThanOrEqual(LIMIT_MS / 2)
    expect(frozen).toBeLessThanOrEqual(LIMIT_MS + TOLERANCE_MS)
    // One freeze only: a guest that hung is not frozen again.
    const [rule] = await session.lab.control.faults()
    expect(rule?.struck).toBe(1)
    await session.expectClean()
  })

  test('freeze hangs, policy require: the backup fails with GUEST, and nothing is left', async () => {
    await session.lab.control.fault({ quiesce: 'hang', object: 'required' })
    const run = await session.json(backup('required', '--quiesce', 'require'), 8)
    expect(run.vms[0].error).toMatchObject({ code: 'GUEST', message: expect.stringContaining('frozen longer than 0.9 s') })
    expect(await longest('required')).toBeLessThanOrEqual(LIMIT_MS + TOLERANCE_MS)
    await session.expectClean()
  })

  test('freeze hangs and the server refuses CancelTask: its own time-out, which we asked for, ends the freeze', async () => {
    await session.lab.control.fault({ quiesce: 'hang', object: 'stubborn' })
    await session.lab.control.fault({ notCancelable: true, object: 'stubborn' })
    const run = await session.json(backup('stubborn'))
    expect(run.vms[0]).toMatchObject({ ok: true, consistency: 'crash' })
    const frozen = await longest('stubborn')
    expect(frozen).toBeGreaterThan(LIMIT_MS)
    expect(frozen).toBeLessThanOrEqual(SERVER_LIMIT_MS + SERVER_TOLERANCE_MS)
    await session.expectClean()
  })

  test('agent SIGKILLed while frozen: the limit on the server’s side holds, recovery finds nothing frozen', async () => {
    await session.lab.control.fault({ quiesce: 'hang', object: 'orphan', times: 1 })
    const { child, said } = start(session.environment, backup('orphan', '--freeze-limit', '2m'))
    const exited = once(child, 'exit')
    await until(`the guest is frozen ${said()}`, async () => stateOf(await session.lab.control.state(), 'orphan').frozen)
    child.kill('SIGKILL')
    await exited
    await until('it is thawed', async () => !stateOf(await session.lab.control.state(), 'orphan').frozen)
    expect(await longest('orphan')).toBeLessThanOrEqual(SERVER_LIMIT_MS + SERVER_TOLERANCE_MS)
    const report = await session.json(['recover'])
    expect(report.recovered.flatMap((job: Json) => job.claims).every((claim: Json) => claim.result !== 'kept')).toBe(true)
    await session.expectClean()
  })

  test('vCenter unreachable while frozen: the server’s limit holds, and what was held is released when it is back', async () => {
    await using network = await openCutProxy(session.lab.endpoints.vcenter.url)
    await session.lab.control.fault({ quiesce: 'hang', object: 'cut', times: 1 })
    const { child, said } = start({ ...session.environment, VCB_VCENTER: network.url }, backup('cut'))
    const exited = once(child, 'exit')
    await until('the guest is frozen', async () => stateOf(await session.lab.control.state(), 'cut').frozen)
    network.cut()
    await until('it is thawed', async () => !stateOf(await session.lab.control.state(), 'cut').frozen)
    expect(await longest('cut')).toBeLessThanOrEqual(SERVER_LIMIT_MS + SERVER_TOLERANCE_MS)
    network.mend()
    await exited
    expect([0, 7, 8], said()).toContain(child.exitCode)
    await session.json(['recover'])
    await session.expectClean()
  })
})

test('lab killed and restarted while frozen: the guest goes on, and the agent comes to an end with nothing left', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-freeze-'))
  try {
    const file = join(directory, 'scenario.json')
    await writeFile(file, JSON.stringify(scenario))
    await using lab = await LabProcess.start(join(directory, 'lab'), file)
    const environment = {
      ...session.environment,
      ...lab.connection,
      VCB_REPO: join(directory, 'repo'),
      VCB_STATE_DIR: join(directory, 'state'),
      VCB_LOG_FILE: join(directory, 'vcb.log'),
    }
    await lab.fault({ quiesce: 'hang', object: 'hangs', times: 1 })
    const { child, said } = start(environment, backup('hangs', '--init'))
    const exited = once(child, 'exit')
    await until('the guest is frozen', async () => stateOf(await lab.state(), 'hangs').frozen)
    // Until the lab has noted on disk that the guest is frozen.
    await systemClock.sleep(300)
    lab.strike(200)
    await lab.settled()
    const after = stateOf(await lab.state(), 'hangs')
    expect(after.frozen).toBe(false)
    expect(after.longestFreezeMs).toBeGreaterThan(0)
    await exited
    expect([0, 7, 8], said()).toContain(child.exitCode)
    const recovery = start(environment, ['recover', '--json'])
    await once(recovery.child, 'exit')
    expect(recovery.child.exitCode, recovery.said()).toBe(0)
    const { vms } = await lab.state()
    expect(vms.flatMap(({ snapshots }) => snapshots)).toEqual([])
    expect(vms.filter(({ frozen }) => frozen)).toEqual([])
    // From the freeze to the lab's return: no virtual machine runs without its host.
    expect(stateOf(await lab.state(), 'hangs').longestFreezeMs).toBeLessThanOrEqual(SERVER_LIMIT_MS + SERVER_TOLERANCE_MS)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})
