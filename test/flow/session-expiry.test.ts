import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { LabClient } from './lab-client.ts'
import { type CommandResult, type Json, type LabSession, openLabSession } from './lab-session.ts'

/*
 * The session is ended by the server at the n-th call of a flow, for every n (VCB_MATRIX=all) or a sample of them: the flow ends as if nothing had
 * happened. Calls are SOAP methods and requests to /folder and /nfc alike.
 */
const SCENARIO = {
  name: 'expiry',
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      clusters: [{ name: 'C', hosts: [{ name: 'esx1.lab' }] }],
      datastores: [{ name: 'ds1', type: 'VMFS6' }],
      vms: [{ name: 'vm', power: 'poweredOff', changeTracking: true, disks: [{ size: '2MiB', content: 'random' }, { size: '1MiB' }] }],
    },
  ],
}
const WHOLE = process.env['VCB_MATRIX'] === 'all'
/** Runs of one flow in a sample: the first calls, where the session begins, and evenly spread ones. */
const SAMPLE = 3

let session: LabSession

beforeAll(async () => {
  session = await openLabSession({ scenario: SCENARIO })
  await session.json(['init'])
  await session.json(['backup', 'vm', '--mode', 'full'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

type Flow = {
  readonly name: string
  /** Brings about what the flow needs; its calls are not struck. */
  readonly before?: () => Promise<void>
  readonly run: () => Promise<CommandResult>
  /** What must be so after a run, besides that nothing is left. */
  readonly check: (result: CommandResult) => Promise<void>
}

const vcb = (...argv: readonly string[]): Promise<CommandResult> => session.vcb(...argv)
const control = () => session.lab.control

async function restoredLike(name: string): Promise<void> {
  const source = (await control().sha256('vm')).map((disk) => disk.sha256)
  expect((await control().sha256(name)).map((disk) => disk.sha256)).toEqual(source)
  const client = await LabClient.login(session.lab)
  const made = (await control().state()).vms.find((vm) => vm.name === name)
  await client.task('Destroy_Task', client.vm(made?.moref ?? ''))
}

async function restorable(result: CommandResult): Promise<void> {
  const [vm] = result.json().vms
  expect(vm.ok).toBe(true)
  const target = join(session.directory, 'out')
  const restored = await session.json(['restore', vm.point, '--to-dir', target])
  expect(restored.disks).toHaveLength(2)
  await rm(target, { recursive: true })
}

const FLOWS: readonly Flow[] = [
  {
    name: 'a full backup by https',
    run: () => vcb('backup', 'vm', '--mode', 'full', '--transport', 'https', '--json'),
    check: async (result) => {
      expect(result.json().vms[0].mode).toBe('full')
      await restorable(result)
    },
  },
  {
    name: 'an incremental backup',
    before: async () => {
      await control().write('vm', { bytes: 65_536 })
    },
    run: () => vcb('backup', 'vm', '--json'),
    check: async (result) => {
      expect(result.json().vms[0].mode, JSON.stringify(result.json().vms[0].disks)).toBe('incremental')
      expect(result.json().vms[0].disks.every((disk: Json) => disk.readBytes <= disk.capacityBytes)).toBe(true)
    },
  },
  {
    name: 'a restore by lease',
    run: () => vcb('restore', 'vm@latest', '--name', 'back', '--to-vcenter', '--via', 'lease', '--json'),
    check: () => restoredLike('back'),
  },
  {
    name: 'a restore by datastore files',
    run: () => vcb('restore', 'vm@latest', '--name', 'back', '--to-vcenter', '--via', 'folder', '--json'),
    check: () => restoredLike('back'),
  },
  {
    name: 'a recovery',
    before: async () => {
      const id = await control().fault({ on: 'RemoveSnapshot_Task', fault: 'NoPermission' })
      expect((await session.vcb('backup', 'vm')).exit).toBe(12)
      await control().clearFaults(id)
    },
    run: () => vcb('recover', '--json'),
    check: async (result) => {
      expect(result.json().recovered).toHaveLength(1)
    },
  },
]

describe.each(FLOWS)('$name', (flow) => {
  test('goes on when the session has expired, at any call', { timeout: WHOLE ? 7_200_000 : 600_000 }, async () => {
    // Once undisturbed, to count.
    await flow.before?.()
    const count = await control().fault({ on: '*', delayMs: 0 })
    const plain = await flow.run()
    const calls = (await control().faults()).find((rule) => rule.id === count)?.seen ?? 0
    await control().clearFaults()
    expect(plain.exit, plain.out + plain.err).toBe(0)
    await flow.check(plain)
    expect(calls).toBeGreaterThan(5)
    const all = Array.from({ length: calls }, (_none, index) => index + 1)
    const stride = Math.max(1, Math.floor(calls / SAMPLE))
    const chosen = WHOLE ? all : all.filter((n) => n % stride === stride - 1)
    for (const nth of chosen) {
      await flow.before?.()
      await control().fault({ on: '*', nth, expireSession: true })
      const result = await flow.run()
      await control().clearFaults()
      expect(result.exit, `call ${nth} of ${calls}: ${result.out}${result.err}`).toBe(0)
      await flow.check(result)
      await session.expectClean()
    }
  })
})
