import { createHash, randomBytes } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createIds, isAgentError, MIB, rangeEnd, silentLog, systemClock } from '../../src/core/index.ts'
import { describeVm, selectVms } from '../../src/inventory/index.ts'
import type { FaultRule, Lab } from '../../src/lab/index.ts'
import { type ChunkCompression, dialNfc, NfcSession } from '../../src/nfc/index.ts'
import { createSnapshots } from '../../src/snapshot/index.ts'
import {
  createNfcLimits,
  httpsTransport,
  nbdTransport,
  openPlanned,
  type PlannedDisk,
  type SnapshotDisk,
  type Transport,
} from '../../src/transport/index.ts'
import { ticketToRead, type Vsphere, vmMoRef } from '../../src/vsphere/index.ts'
import { LabClient } from './lab-client.ts'
import { openLabSession } from './lab-session.ts'

/* What can go wrong between a proxy and a host's NFC service, each with what a read makes of it. Rows of "Failures and what vcb does" in docs/errors.md. */

const scenario = {
  taskMs: 0,
  // Room for the sessions that a vCenter gives out at most, which are counted here.
  nfc: { memory: '512MiB' },
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }, { name: 'esx2' }],
      datastores: [{ name: 'v6', type: 'VMFS6' }],
      vms: [
        { name: 'one', datastore: 'v6', tools: 'notInstalled', disks: [{ size: '6MiB', content: 'random' }] },
        {
          name: 'two',
          datastore: 'v6',
          tools: 'notInstalled',
          disks: [
            { size: '4MiB', content: 'random' },
            { size: '4MiB', content: 'random' },
          ],
        },
      ],
    },
  ],
}

let lab: Lab
let vsphere: Vsphere
const disks = new Map<string, readonly SnapshotDisk[]>()
const digests = new Map<string, string>()
const owned = new AsyncDisposableStack()

beforeAll(async () => {
  const session = owned.use(await openLabSession({ scenario }))
  lab = session.lab
  vsphere = await session.connect()
  const snapshots = createSnapshots(vsphere)
  for (const name of ['one', 'two']) {
    await lab.control.write(name, { percent: 20, unit: 4096, seed: 3 })
    const [vm] = await selectVms(vsphere, [name], { bulk: false })
    if (vm === undefined) throw new Error('no VM')
    const before = await describeVm(vsphere, vm)
    const snapshot = await snapshots.create(vm, { claim: createIds().claim() })
    const config = await snapshots.configOf(snapshot, before)
    disks.set(
      name,
      config.disks.map((disk) => ({ snapshot, config, disk })),
    )
    for (const { key, sha256 } of await lab.control.sha256(name, { snapshot: snapshot.name })) digests.set(`${name} ${key}`, sha256)
    // The frozen image is not what the disk holds now.
    await lab.control.write(name, { percent: 10, unit: 4096, seed: 4 })
  }
})
afterAll(() => owned[Symbol.asyncDispose]())
afterEach(async () => {
  await lab.control.clearFaults()
  await expectNothingLeft()
})

const diskOf = (name: string, index = 0): SnapshotDisk => {
  const disk = disks.get(name)?.[index]
  if (disk === undefined) throw new Error(`no disk ${index} of ${name}`)
  return disk
}

const nbdssl = (options: { compression?: ChunkCompression; sessions?: number; perHost?: number; memoryPerHost?: number } = {}): Transport =>
  nbdTransport(vsphere, {
    name: 'nbdssl',
    clock: systemClock,
    random: (size) => randomBytes(size),
    limits: createNfcLimits({ perHost: options.perHost, memoryPerHost: options.memoryPerHost }),
    ...options,
  })

/** Reads what is allocated, as a backup does, and compares the whole image with what was frozen. */
async function readRight(disk: SnapshotDisk, transports: readonly Transport[]): Promise<PlannedDisk> {
  const reopen = { attempts: 2, lastAttempts: 2, delayMs: 5, maxDelayMs: 10 }
  const planned = await openPlanned(disk, transports, { log: silentLog, clock: systemClock, reopen })
  await using source = planned.source
  const image = Buffer.alloc(source.size)
  for await (const extent of source.extents({ offset: 0, length: source.size })) {
    if (extent.kind === 'data') await source.read(extent.offset, image.subarray(extent.offset, rangeEnd(extent)))
  }
  expect(createHash('sha256').update(image).digest('hex')).toBe(digests.get(`${disk.config.vm.name} ${disk.disk.key}`))
  const { transport, resumed, refused, reason } = planned
  return { ...planned, transport, resumed, refused, reason }
}

/** Neither a connection nor a lock nor a buffer of NFC is left. */
async function expectNothingLeft(): Promise<void> {
  const left = async () => {
    const { nfc, locks } = await lab.control.state()
    return [nfc.connections, nfc.sessions.length, nfc.memoryBytes, locks.filter((lock) => lock.holder.startsWith('NFC')).length]
  }
  for (let tries = 0; tries < 200 && (await left()).some((count) => count > 0); tries++) await systemClock.sleep(20)
  expect(await left()).toEqual([0, 0, 0, 0])
}

type Outcome = {
  /** With https behind it: the transport that finished the read, and how often NFC was opened again. */
  readonly transport: 'nbdssl' | 'https'
  readonly resumed?: number
  /** With nothing behind it: what is said; undefined when the read succeeds all the same. */
  readonly says?: string
}

/** With another transport behind it, then alone: never a wrong byte, never anything left. */
async function expectOutcome(rules: readonly FaultRule[], outcome: Outcome, compression: ChunkCompression = 'skipz'): Promise<void> {
  const arm = async (): Promise<void> => {
    await lab.control.clearFaults()
    for (const rule of rules) await lab.control.fault(rule)
  }
  await arm()
  const disk = diskOf('one')
  const planned = await readRight(disk, [nbdssl({ compression }), httpsTransport(vsphere)])
  expect(planned).toMatchObject({ transport: outcome.transport, ...(outcome.resumed === undefined ? {} : { resumed: outcome.resumed }) })
  await arm()
  const alone = readRight(disk, [nbdssl({ compression })])
  if (outcome.says === undefined) await alone
  else await expect(alone).rejects.toSatisfy((error) => isAgentError(error, 'UNAVAILABLE') && error.message.includes(outcome.says ?? ''))
}

describe('before the first byte', () => {
  const cases: readonly (readonly [title: string, rules: readonly FaultRule[], outcome: Outcome])[] = [
    [
      'the ticket names another certificate by its SHA-1',
      [{ on: 'nfc:ticket', nfc: 'wrongThumbprint' }],
      { transport: 'https', says: 'on the NFC port is not the one vSphere named' },
    ],
    [
      'the host names another certificate by its SHA-256',
      [{ on: 'nfc:tls', nfc: 'wrongSha256' }],
      { transport: 'https', says: 'names another certificate than the one it shows on the NFC port' },
    ],
    [
      'a stranger answers behind the hand-over',
      [{ on: 'nfc:tls2', nfc: 'otherSecondCertificate' }],
      { transport: 'https', says: 'on the NFC port is not the one vSphere named' },
    ],
    ['a ticket has expired, and the next has not', [{ on: 'nfc:proxy', nfc: 'expired', times: 1 }], { transport: 'nbdssl' }],
    ['every ticket has expired', [{ on: 'nfc:proxy', nfc: 'expired' }], { transport: 'https', says: 'refused the ticket' }],
    ['authd refuses', [{ on: 'nfc:greeting', nfc: 'maintenance' }], { transport: 'https', says: 'refuses NFC connections now' }],
    [
      'the host has no NFC memory',
      [{ on: 'nfc:session', nfc: 'memoryFull' }],
      { transport: 'https', says: 'The NFC memory of the host is used up' },
    ],
    ['the host has NFC memory for small buffers', [{ on: 'nfc:session', nfc: 'memoryFull', value: 65_536 }], { transport: 'nbdssl' }],
    ['the host refuses buffers of that size', [{ on: 'nfc:session', nfc: 'bufferRefused', value: 262_144 }], { transport: 'nbdssl' }],
    [
      'the host gives out no further session',
      [{ on: 'nfc:session', nfc: 'sessionLimit' }],
      { transport: 'https', says: 'gives out no further NFC session' },
    ],
    ['the ticket carries the certificate itself', [{ on: 'nfc:ticket', nfc: 'certificate' }], { transport: 'nbdssl' }],
    ['the user may have a ticket for a disk only', [{ on: 'NfcGetVmFiles', fault: 'NoPermission' }], { transport: 'nbdssl' }],
    [
      'the user may have no ticket',
      [
        { on: 'NfcGetVmFiles', fault: 'NoPermission' },
        { on: 'NfcRandomAccessOpenReadonly', fault: 'NoPermission' },
      ],
      { transport: 'https', says: 'the user lacks the privilege' },
    ],
    [
      'the host refuses the handshake',
      [{ on: 'nfc:frame', object: '51', nfc: 'errorFrame' }],
      { transport: 'https', says: 'refused the NFC handshake (The host refuses this session., error 1/1)' },
    ],
  ]
  for (const [title, rules, outcome] of cases) test(title, () => expectOutcome(rules, outcome))
})

describe('in mid-read', () => {
  for (const compression of ['none', 'zlib', 'fastlz', 'skipz'] as const) {
    test(`corrupt data under ${compression}`, async () => {
      await expectOutcome([{ on: 'nfc:read', nth: 3, nfc: 'badData' }], { transport: 'nbdssl', resumed: 1 }, compression)
      await expectOutcome([{ on: 'nfc:read', nfc: 'badData' }], { transport: 'https', says: 'over NFC cannot be used' }, compression)
    })
  }

  const cases: readonly (readonly [title: string, rule: FaultRule, outcome: Outcome])[] = [
    ['a record is short', { on: 'nfc:read', nth: 3, nfc: 'shortRecord' }, { transport: 'nbdssl', resumed: 1 }],
    ['every record is short', { on: 'nfc:read', nfc: 'shortRecord' }, { transport: 'https', says: 'over NFC cannot be used' }],
    ['the host cannot read the disk', { on: 'nfc:read', nth: 3, nfc: 'status', value: 13 }, { transport: 'nbdssl', resumed: 1 }],
    ['the host runs out of memory', { on: 'nfc:read', nth: 3, nfc: 'error', value: 5 }, { transport: 'https', says: 'is used up' }],
    ['a record has no magic', { on: 'nfc:read', nth: 3, nfc: 'badMagic' }, { transport: 'nbdssl', resumed: 1 }],
    ['an answer to nothing', { on: 'nfc:read', nth: 3, nfc: 'badOpId' }, { transport: 'nbdssl', resumed: 1 }],
    ['bytes come twice', { on: 'nfc:read', nfc: 'overlap' }, { transport: 'nbdssl' }],
    ['the map of allocated blocks is another', { on: 'nfc:query', nfc: 'wrongCount' }, { transport: 'https', says: 'instead of' }],
  ]
  for (const [title, rule, outcome] of cases) test(title, () => expectOutcome([rule], outcome))

  test('the host drops the connection at every record', async () => {
    let [records, resumed] = [0, 0]
    for (let nth = 1; ; nth++) {
      const id = await lab.control.fault({ on: 'nfc:record', nth, cut: 'before' })
      const planned = await readRight(diskOf('one'), [nbdssl(), httpsTransport(vsphere)])
      const struck = (await lab.control.faults()).find((fault) => fault.id === id)?.struck ?? 0
      await lab.control.clearFaults()
      if (struck === 0) break
      records++
      resumed += planned.resumed
      expect(records).toBeLessThan(100)
    }
    // Two sessions, of the probe and of the read, with set-up, open, key, map, reads and close.
    expect(records).toBeGreaterThan(15)
    expect(resumed).toBeGreaterThan(3)
  }, 120_000)

  test('the host enters maintenance: what it has open is dropped, and nothing new is let in', async () => {
    const id = await lab.control.fault({ on: 'nfc:read', nth: 3, delayMs: 300, cut: 'before' })
    const reading = readRight(diskOf('one'), [nbdssl(), httpsTransport(vsphere)])
    await struck(id)
    await lab.control.fault({ on: 'nfc:greeting', nfc: 'maintenance' })
    expect(await reading).toMatchObject({
      transport: 'https',
      refused: [{ transport: 'nbdssl', reason: expect.stringContaining('refuses NFC connections now') }],
    })
  })

  test('the VM moves to another host, and the old one drops the connection', async () => {
    const { client, vm, target } = await otherHost()
    const id = await lab.control.fault({ on: 'nfc:read', nth: 3, delayMs: 1000, cut: 'before' })
    const reading = readRight(diskOf('one'), [nbdssl()])
    await struck(id)
    await client.task('RelocateVM_Task', client.vm(vm), `<spec><host type="HostSystem">${target}</host></spec>`)
    expect(await reading).toMatchObject({ transport: 'nbdssl', resumed: 1, refused: [] })
    expect(await client.text('VirtualMachine', vm, 'runtime.host')).toBe(target)
    // The next session counts against the new host.
    const hostName = await client.text('HostSystem', target, 'name')
    const source = await nbdssl().open(diskOf('one'))
    expect((await lab.control.state()).nfc.sessions.map((each) => each.host)).toEqual([hostName])
    await source[Symbol.asyncDispose]()
  })

  test('the VM moves to another host, and the connection stays', async () => {
    const { client, vm, target } = await otherHost()
    const id = await lab.control.fault({ on: 'nfc:read', nth: 3, delayMs: 700 })
    const reading = readRight(diskOf('one'), [nbdssl()])
    await struck(id)
    await client.task('RelocateVM_Task', client.vm(vm), `<spec><host type="HostSystem">${target}</host></spec>`)
    expect(await reading).toMatchObject({ transport: 'nbdssl', resumed: 0 })
  })
})

describe('at the limits', () => {
  const sessions = async (): Promise<number> => (await lab.control.state()).nfc.sessions.filter((each) => each.path !== undefined).length

  test('a disk is read over several sessions while there is room, and disks wait for one another where there is none', async () => {
    for (const [options, most] of [
      [{ sessions: 3 }, 6],
      [{ sessions: 3, perHost: 2 }, 2],
      [{ sessions: 2, perHost: 1 }, 1],
    ] as const) {
      await lab.control.fault({ on: 'nfc:read', delayMs: 40 })
      let seen = 0
      const over = new AbortController()
      const watching = (async () => {
        while (!over.signal.aborted) {
          seen = Math.max(seen, await sessions())
          await systemClock.sleep(2)
        }
      })()
      const transport = nbdssl(options)
      await Promise.all([0, 1].map((index) => readRight(diskOf('two', index), [transport]))).finally(() => over.abort())
      await watching
      await lab.control.clearFaults()
      expect([options, seen]).toEqual([options, most])
    }
  })

  test('the 53rd connection through a vCenter goes another way', async () => {
    await using others = new AsyncDisposableStack()
    for (let count = 0; count < 52; count++) {
      const ticket = await ticketToRead(vsphere, vmMoRef(diskOf('two').config.vm))
      const channel = await dialNfc(ticket, { encrypted: false, clock: systemClock, random: (size) => randomBytes(size) })
      others.use(await NfcSession.open(channel, { host: ticket.host, clock: systemClock, bufferBytes: 65_536 }))
    }
    expect((await lab.control.state()).nfc.sessions).toHaveLength(52)
    const said = expect.stringContaining('gives out no further NFC session')
    const planned = await readRight(diskOf('one'), [nbdssl(), httpsTransport(vsphere)])
    expect(planned).toMatchObject({ transport: 'https', refused: [{ transport: 'nbdssl', reason: said }] })
    await expect(readRight(diskOf('one'), [nbdssl()])).rejects.toMatchObject({ code: 'UNAVAILABLE', message: said })
    await others.disposeAsync()
    await expectNothingLeft()
    expect(await readRight(diskOf('one'), [nbdssl()])).toMatchObject({ transport: 'nbdssl' })
  })

  test('the 53rd session of our own waits until one is closed', async () => {
    const transport = nbdssl({ memoryPerHost: 512 * MIB })
    const open = await Promise.all(Array.from({ length: 52 }, () => transport.open(diskOf('two'))))
    let opened = false
    const last = transport.open(diskOf('one')).then((source) => {
      opened = true
      return source
    })
    await systemClock.sleep(300)
    expect([opened, await sessions()]).toEqual([false, 52])
    await open[0]?.[Symbol.asyncDispose]()
    const source = await last
    expect(await sessions()).toBe(52)
    for (const each of [...open, source]) await each[Symbol.asyncDispose]()
  })
})

/** Until the rule has struck. */
async function struck(id: string): Promise<void> {
  for (let tries = 0; tries < 2000; tries++) {
    if (((await lab.control.faults()).find((fault) => fault.id === id)?.struck ?? 0) > 0) return
    await systemClock.sleep(5)
  }
  throw new Error('the rule has not struck')
}

/** A host that does not run the VM `one`. */
async function otherHost(): Promise<{ readonly client: LabClient; readonly vm: string; readonly target: string }> {
  const client = await LabClient.login(lab)
  const vm = vmMoRef(diskOf('one').config.vm).value
  const now = await client.text('VirtualMachine', vm, 'runtime.host')
  for (let number = 1; number < 100; number++) {
    const id = `host-${number}`
    const name = await client.text('HostSystem', id, 'name').catch(() => undefined)
    if (name !== undefined && id !== now) return { client, vm, target: id }
  }
  throw new Error('there is no other host')
}
