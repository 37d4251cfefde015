import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { AgentError, type BlockSource, createIds, MIB, silentLog, systemClock } from '../../src/core/index.ts'
import { describeVm, selectVms } from '../../src/inventory/index.ts'
import { createSnapshots } from '../../src/snapshot/index.ts'
import { httpsTransport, openPlanned, sanTransport, type Transport } from '../../src/transport/index.ts'
import { LabProcess } from '../storm/lab-process.ts'
import { openCutProxy } from './cut-proxy.ts'
import { digestOfFile, type Json, type LabSession, openLabSession } from './lab-session.ts'

/* A read that is interrupted goes on inside the living snapshot, from the last finished block, on the same or the next transport. */
const scenario = {
  name: 'resume',
  seed: 23,
  recordDigests: true,
  datacenters: [
    {
      name: 'DC1',
      hosts: [{ name: 'esx1.lab' }],
      datastores: [{ name: 'ds1', type: 'VMFS6' }],
      vms: [
        { name: 'web', datastore: 'ds1', changeTracking: true, workload: 5, disks: [{ size: '192MiB', content: 'random' }] },
        { name: 'app', datastore: 'ds1', changeTracking: true, workload: 5, disks: [{ size: '96MiB', content: 'random' }] },
      ],
    },
  ],
}
const CONFIG = 'resume:\n  attempts: 4\n  lastAttempts: 30\n  delay: 100ms\n  maxDelay: 1s\n'
/** What the reader has under way at once at most, in blocks of 1 MiB: a cut loses that much and no more. */
const IN_FLIGHT = Math.max(8, availableParallelism() * 4) * MIB

// Real pauses and real restarts, on a machine that does other things too.
vi.setConfig({ testTimeout: 400_000 })

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario })
  const config = join(session.directory, 'vcb.yaml')
  await writeFile(config, CONFIG)
  session.environment['VCB_CONFIG'] = config
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
afterEach(async () => {
  await session.lab.control.clearFaults()
})

/** The digest of the disk as the repository gives it back. */
async function restored(point: string, vcb: (argv: readonly string[]) => Promise<unknown>): Promise<string> {
  const target = await mkdtemp(join(tmpdir(), 'vcb-resume-'))
  try {
    await vcb(['restore', point, '--to-dir', join(target, 'vm'), '--format', 'flat'])
    const flat = (await readdir(join(target, 'vm'))).find((name) => name.endsWith('-flat.vmdk'))
    return await digestOfFile(join(target, 'vm', flat ?? ''))
  } finally {
    await rm(target, { recursive: true, force: true })
  }
}

const digestOf = async (vm: string): Promise<string | undefined> =>
  (await session.lab.control.digestsAtSnapshot(vm)).at(-1)?.disks[0]?.sha256

/** Runs a backup through the network that `disturb` works on, which begins when data flows. */
async function throughNetwork(argv: readonly string[], disturb: (cut: Awaited<ReturnType<typeof openCutProxy>>) => Promise<void>) {
  await using network = await openCutProxy(session.lab.endpoints.vcenter.url)
  const over = new AbortController()
  const work = session.vcbWith({ VCB_VCENTER: network.url }, ...argv, '--json').finally(() => over.abort())
  while (network.received < 8 * MIB && !over.signal.aborted) await systemClock.sleep(5)
  expect(over.signal.aborted, 'the backup was over before it could be disturbed').toBe(false)
  await disturb(network)
  const result = await work
  return { result, run: result.json(), received: network.received }
}

describe('a read over https that is interrupted', () => {
  test('in a full: goes on where it was, nothing read twice but what was in flight, digests equal', async () => {
    await session.lab.control.write('web', { areas: [{ offset: 40 * MIB, length: 64 * MIB }], seed: 1 })
    await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 40 })
    let cuts = 0
    const { result, run, received } = await throughNetwork(['backup', 'web', '--mode', 'full', '--transport', 'https'], async (network) => {
      for (const pause of [150, 250, 100]) {
        network.interrupt()
        cuts++
        await systemClock.sleep(pause)
      }
      // Longer than a request tries by itself: the transport is opened again.
      network.cut()
      cuts++
      await systemClock.sleep(5000)
      network.mend()
    })
    expect({ exit: result.exit, err: result.err }).toEqual({ exit: 0, err: '' })
    const [disk] = run.vms[0].disks
    expect(disk.transport).toBe('https')
    expect(disk.refused).toEqual([])
    expect(disk.resumed).toBeGreaterThanOrEqual(1)
    expect(disk.transportReason).toMatch(/first choice; opened again .*after: The connection/)
    expect(disk.readBytes).toBeGreaterThanOrEqual(64 * MIB)
    // What TLS, SOAP and the repeated probes add is well below 5 %.
    expect(received).toBeLessThanOrEqual(disk.readBytes * 1.05 + cuts * IN_FLIGHT)
    expect(await restored(run.vms[0].point, (argv) => session.json(argv))).toBe(await digestOf('web'))
    await session.expectClean()
  })

  test('in an incremental: the same, and the point builds on its parent', async () => {
    await session.lab.control.write('web', { areas: [{ offset: 120 * MIB, length: 48 * MIB }], seed: 2 })
    await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 60 })
    const { run, received } = await throughNetwork(['backup', 'web', '--mode', 'incremental', '--transport', 'https'], async (network) => {
      network.interrupt()
      await systemClock.sleep(200)
      network.cut()
      await systemClock.sleep(5000)
      network.mend()
    })
    const [disk] = run.vms[0].disks
    expect(run.vms[0]).toMatchObject({ ok: true, mode: 'incremental' })
    expect(disk.resumed).toBeGreaterThanOrEqual(1)
    expect(received).toBeLessThanOrEqual(disk.readBytes * 1.05 + 2 * IN_FLIGHT + 2 * MIB)
    expect(await restored(run.vms[0].point, (argv) => session.json(argv))).toBe(await digestOf('web'))
    await session.expectClean()
  })

  test('for good goes on over san, in the same snapshot', async () => {
    await session.lab.control.write('app', { areas: [{ offset: 24 * MIB, length: 40 * MIB }], seed: 3 })
    // Slow first, so that there is a middle; then the web server is gone while vCenter itself goes on.
    const slow = await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 60 })
    const work = session.json(['backup', 'app', '--mode', 'full', '--transport', 'https:san'])
    const read = async (): Promise<number> => (await session.lab.control.faults()).find(({ id }) => id === slow)?.struck ?? 0
    while ((await read()) < 24) await systemClock.sleep(20)
    await session.lab.control.fault({ on: 'folder:*', status: 503 })
    const run = await work
    const [disk] = run.vms[0].disks
    expect(disk.transport).toBe('san')
    expect(disk.refused).toEqual([{ transport: 'https', reason: expect.stringContaining('failed while reading') }])
    expect(disk.transportReason).toContain('after https')
    expect(await restored(run.vms[0].point, (argv) => session.json(argv))).toBe(await digestOf('app'))
    await session.expectClean()
  })
})

test('a read over san that dies for good goes on over https, nothing read twice', async () => {
  await using vsphere = await session.connect()
  const [vm] = await selectVms(vsphere, ['app'], { bulk: false })
  if (vm === undefined) throw new Error('no VM')
  const before = await describeVm(vsphere, vm)
  const snapshots = createSnapshots(vsphere)
  const snapshot = await snapshots.create(vm, { claim: createIds().claim() })
  try {
    const config = await snapshots.configOf(snapshot, before)
    const [disk] = config.disks
    if (disk === undefined) throw new Error('no disk')
    const bytes = { san: 0, https: 0 }
    /** The storage that goes away: every read after so many bytes ends like one of a disk that was pulled. */
    const counted = (transport: Transport, name: 'san' | 'https', dieAfter: number): Transport => ({
      ...transport,
      open: async (of, options): Promise<BlockSource> => {
        if (bytes[name] >= dieAfter) throw new AgentError('UNAVAILABLE', 'Reading the datastore failed with an input/output error.')
        const inner = await transport.open(of, options)
        return {
          size: inner.size,
          read: async (offset, into, readOptions) => {
            if (bytes[name] >= dieAfter) throw new AgentError('UNAVAILABLE', 'Reading the datastore failed with an input/output error.')
            await inner.read(offset, into, readOptions)
            bytes[name] += into.length
          },
          extents: (range, listOptions) => inner.extents(range, listOptions),
          [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
        }
      },
    })
    const planned = await openPlanned(
      { snapshot, config, disk },
      [
        counted(sanTransport({ datastores: session.lab.datastores, clock: systemClock, vsphere }), 'san', 20 * MIB),
        counted(httpsTransport(vsphere), 'https', Number.POSITIVE_INFINITY),
      ],
      { log: silentLog, clock: systemClock, reopen: { attempts: 3, lastAttempts: 3, delayMs: 5, maxDelayMs: 20 } },
    )
    const hash = createHash('sha256')
    {
      await using source = planned.source
      const block = new Uint8Array(MIB)
      for (let offset = 0; offset < disk.capacityBytes; offset += MIB) {
        await source.read(offset, block)
        hash.update(block)
      }
      expect(planned.transport).toBe('https')
      expect(planned.refused).toEqual([{ transport: 'san', reason: expect.stringContaining('failed while reading') }])
    }
    expect(bytes.san + bytes.https).toBe(disk.capacityBytes)
    const [wanted] = await session.lab.control.sha256('app', { snapshot: snapshot.name })
    expect(hash.digest('hex')).toBe(wanted?.sha256)
  } finally {
    await snapshots.remove(snapshot)
  }
  await session.expectClean()
})

test('vCenter restarts in mid-read: the session logs in again and the read goes on', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-restart-'))
  try {
    const file = join(directory, 'scenario.json')
    await writeFile(file, JSON.stringify(scenario))
    await using lab = await LabProcess.start(join(directory, 'lab'), file)
    const environment = {
      ...lab.connection,
      VCB_REPO: join(directory, 'repo'),
      VCB_STATE_DIR: join(directory, 'state'),
      VCB_LOG_FILE: join(directory, 'vcb.log'),
      VCB_LOG_LEVEL: 'info',
    }
    const json = async (argv: readonly string[]): Promise<Json> => {
      const result = await session.vcbWith(environment, ...argv, '--json')
      expect({ exit: result.exit, err: result.err, out: result.exit === 0 ? '' : result.out }).toEqual({ exit: 0, err: '', out: '' })
      return result.json()
    }
    const slow = await lab.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 120 })
    const work = json(['backup', 'web', '--init', '--mode', 'full', '--transport', 'https'])
    const read = async (): Promise<number> => (await lab.state()).faults.find(({ id }) => id === slow)?.struck ?? 0
    while ((await read()) < 16) await systemClock.sleep(30)
    // Asking makes the lab finish the digest it takes in the background, before it is killed.
    const recorded = (await lab.digests('web')).at(-1)?.disks[0]?.sha256
    lab.strike(4000)
    await lab.settled()
    const run = await work
    expect(run.vms[0].disks[0]).toMatchObject({ transport: 'https', refused: [] })
    expect(run.vms[0].disks[0].resumed).toBeGreaterThanOrEqual(1)
    expect(await readFile(join(directory, 'vcb.log'), 'utf8')).toContain('the session was gone; logged in again')
    expect(recorded).toMatch(/^[0-9a-f]{64}$/)
    expect(await restored(run.vms[0].point, json)).toBe(recorded)
    expect((await lab.state()).vms.flatMap(({ snapshots }) => snapshots)).toEqual([])
    expect((await json(['check'])).problems).toEqual([])
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})
