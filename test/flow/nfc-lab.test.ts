import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AgentError, type ErrorCode, type Extent, KIB, MIB, systemClock } from '../../src/core/index.ts'
import { type FaultRule, startLab } from '../../src/lab/index.ts'
import { createNfcSink } from '../../src/nfc/index.ts'
import { ticketToRead } from '../../src/vsphere/index.ts'
import { LabClient } from './lab-client.ts'
import { digestOfSource, type Kind, nfcScenario, type NfcWorld, openNfcWorld } from './nfc-world.ts'

let world: NfcWorld
beforeAll(async () => {
  world = await openNfcWorld()
})
afterAll(() => world[Symbol.asyncDispose]())

type Frozen = { readonly name: string; readonly path: string; readonly sha256: string }
const frozen = new Map<string, Promise<Frozen>>()

/** The VM with data in several links, frozen once. */
function freeze(name: string): Promise<Frozen> {
  const known =
    frozen.get(name) ??
    (async () => {
      const { lab } = world
      if (name !== 'odd') await lab.control.write(name, { percent: 4, unit: 4096, seed: 5 })
      const { snapshot, files } = await world.freeze(name)
      await lab.control.write(name, { percent: 2, unit: 512, seed: 6 })
      const [digest] = await lab.control.sha256(name, { snapshot })
      return { name, path: files[0]?.fileName ?? '', sha256: digest?.sha256 ?? '' }
    })()
  frozen.set(name, known)
  return known
}

async function faulty<T>(rule: FaultRule, work: () => Promise<T>): Promise<T> {
  const id = await world.lab.control.fault(rule)
  try {
    return await work()
  } finally {
    await world.lab.control.clearFaults(id)
  }
}

const codeOf = async (work: Promise<unknown>): Promise<ErrorCode | 'no error'> =>
  work.then(
    () => 'no error' as const,
    (error: unknown) => {
      if (error instanceof AgentError) return error.code
      throw error
    },
  )

async function readAll(name: string, how: Parameters<NfcWorld['open']>[2] = {}): Promise<string> {
  const { path } = await freeze(name)
  const { disk } = await world.open(name, path, how)
  await using _closed = disk
  return await digestOfSource(disk)
}

describe('what is read is what was frozen', () => {
  for (const kind of ['vcenter', 'esxi'] as const satisfies readonly Kind[]) {
    for (const encrypted of [true, false]) {
      test(`${encrypted ? 'nbdssl' : 'nbd'} by a ticket of ${kind}: every compression and buffer, on SE-sparse and COWD chains`, async () => {
        for (const name of ['sesparse', 'cowd', 'odd']) {
          const { sha256 } = await freeze(name)
          for (const compression of ['none', 'zlib', 'fastlz', 'skipz'] as const)
            expect([name, compression, await readAll(name, { kind, encrypted, compression, bufferBytes: MIB })]).toEqual([
              name,
              compression,
              sha256,
            ])
          for (const bufferBytes of [64 * KIB, 2 * MIB])
            expect([name, bufferBytes, await readAll(name, { kind, encrypted, bufferBytes, compression: 'zlib' })]).toEqual([
              name,
              bufferBytes,
              sha256,
            ])
        }
        expect(await world.isClean()).toBe(true)
      })
    }
  }

  test('the map of allocated blocks covers the whole chain and nothing that was never written', async () => {
    for (const name of ['sesparse', 'cowd']) {
      const { path, sha256 } = await freeze(name)
      const { disk } = await world.open(name, path)
      await using _closed = disk
      const buffer = Buffer.alloc(disk.size)
      const extents: Extent[] = []
      for await (const extent of disk.extents({ offset: 0, length: disk.size })) {
        extents.push(extent)
        if (extent.kind === 'data') await disk.read(extent.offset, buffer.subarray(extent.offset, extent.offset + extent.length))
      }
      const data = extents.filter((extent) => extent.kind === 'data').reduce((sum, extent) => sum + extent.length, 0)
      expect(data).toBeGreaterThan(0)
      expect(data).toBeLessThan(disk.size)
      const { createHash } = await import('node:crypto')
      expect(createHash('sha256').update(buffer).digest('hex')).toBe(sha256)
    }
  })

  test('capacity, geometry and descriptor keys are the disk’s own', async () => {
    const { path } = await freeze('odd')
    const { info, session } = await world.open('odd', path)
    await using _closed = session
    expect(info.capacity).toBe(3 * MIB + 512 * 77)
    expect(info.geometry).toEqual({ cylinders: 0, heads: 255, sectors: 63 })
    expect(await session.descriptorValue('adapterType')).toBe('lsilogic')
    expect(await session.descriptorValue('uuid')).toMatch(/^60 00 C2 9/i)
    expect(await session.descriptorValue('iofilters')).toBeUndefined()
  })
})

describe('who may open what', () => {
  const opening = async (name: string, path: string): Promise<ErrorCode | 'no error'> => {
    const opened = world.open(name, path)
    const code = await codeOf(opened)
    if (code === 'no error') await (await opened).disk[Symbol.asyncDispose]()
    return code
  }
  const chainOf = async (name: string): Promise<readonly string[]> =>
    (await world.lab.control.state()).vms.find((vm) => vm.name === name)?.disks[0]?.chain ?? []

  test('the link a running VM writes to is refused, each frozen parent opens', async () => {
    await freeze('sesparse')
    const [live = '', ...parents] = await chainOf('sesparse')
    await expect(world.open('sesparse', live)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('multiwriter mode'),
    })
    expect(parents).toHaveLength(3)
    for (const parent of parents) expect(await opening('sesparse', parent)).toBe('no error')
  })

  test('another VM’s file and a path that is none are not covered by the ticket', async () => {
    const [path = ''] = await chainOf('other')
    expect(await opening('off', path)).toBe('AUTH')
    expect(await opening('off', '[v6] off/nothing.vmdk')).toBe('AUTH')
    expect(await opening('off', 'nonsense')).toBe('AUTH')
    expect(await opening('other', path)).toBe('no error')
  })

  test('writing needs the ticket for it, and the ticket’s disk', async () => {
    const disks = (await world.lab.control.state()).vms.find((vm) => vm.name === 'off')?.disks ?? []
    const [first, second] = disks
    const reading = await world.session(await ticketToRead(world.vsphere.vcenter, world.vm('off')))
    expect(await codeOf(reading.openDisk(first?.fileName ?? '', 'write'))).toBe('AUTH')
    // The session goes on after a refusal.
    expect(await codeOf(reading.openDisk(first?.fileName ?? '', 'read'))).toBe('no error')
    await reading[Symbol.asyncDispose]()
    const writing = await world.session(await world.writeTicket('off', first?.key ?? 0))
    expect(await codeOf(writing.openDisk(second?.fileName ?? '', 'write'))).toBe('AUTH')
    await writing[Symbol.asyncDispose]()
    expect(await world.isClean()).toBe(true)
  })

  test('readers share a file, a writer wants it alone, a browser gets neither', async () => {
    const [disk] = (await world.lab.control.state()).vms.find((vm) => vm.name === 'off')?.disks ?? []
    const path = disk?.fileName ?? ''
    const flat = path.replace('[v6] ', '').replace('.vmdk', '-flat.vmdk')
    const download = async (): Promise<number> => (await world.client.http('GET', `/folder/${flat}?dcPath=DC&dsName=v6`)).status
    expect(await download()).toBe(200)
    const one = await world.open('off', path)
    const two = await world.open('off', path)
    expect(await download()).toBe(500)
    const writer = await world.session(await world.writeTicket('off', disk?.key ?? 0))
    expect(await codeOf(writer.openDisk(path, 'write'))).toBe('CONFLICT')
    await expect(world.client.task('PowerOnVM_Task', world.client.vm(world.vm('off').value))).rejects.toThrow('FileLocked')
    await one.disk[Symbol.asyncDispose]()
    await two.disk[Symbol.asyncDispose]()
    expect(await codeOf(writer.openDisk(path, 'write'))).toBe('no error')
    expect(await opening('off', path)).toBe('CONFLICT')
    await writer[Symbol.asyncDispose]()
    expect(await world.isClean()).toBe(true)
    expect(await download()).toBe(200)
  })

  test('a snapshot is not removed while NFC has its files open', async () => {
    const { snapshot, files } = await world.freeze('odd')
    const { disk } = await world.open('odd', files[0]?.fileName ?? '')
    await expect(world.client.removeSnapshot(snapshot)).rejects.toThrow('FileLocked')
    await disk[Symbol.asyncDispose]()
    expect(await world.isClean()).toBe(true)
  })

  test('a ticket works once, for five minutes, and the restricted user gets none', async () => {
    const ticket = await ticketToRead(world.vsphere.vcenter, world.vm('off'))
    await (await world.session(ticket))[Symbol.asyncDispose]()
    expect(await codeOf(world.session(ticket))).toBe('AUTH')
    expect(await codeOf(world.session({ ...ticket, sessionId: 'made-up' }))).toBe('AUTH')
    const viewer = await LabClient.login(world.lab, 'vcenter', true)
    const service = '<_this type="NfcService">nfcService</_this>'
    const vm = `<vm type="VirtualMachine">${world.vm('off').value}</vm>`
    for (const [method, more] of [
      ['NfcGetVmFiles', ''],
      ['NfcRandomAccessOpenReadonly', '<diskDeviceKey>2000</diskDeviceKey>'],
      ['NfcRandomAccessOpenDisk', '<diskDeviceKey>2000</diskDeviceKey>'],
    ] as const)
      await expect(viewer.call(method, service, vm + more)).rejects.toThrow('NoPermission')
  })

  test('the tickets of vCenter name the host, those of a host do not; the library version needs a host', async () => {
    const esxi = await LabClient.login(world.lab, 'esxi')
    const fields = async (client: LabClient, service: string, vm: string): Promise<Record<string, string>> => {
      const answer = await client.call(
        'NfcGetVmFiles',
        `<_this type="NfcService">${service}</_this>`,
        `<vm type="VirtualMachine">${vm}</vm>`,
      )
      return Object.fromEntries((answer.children[0]?.children ?? []).map((field) => [field.name, field.text]))
    }
    const { port, sha1 } = world.lab.endpoints.nfc
    const common = { port: String(port), sslThumbprint: sha1, serviceVersion: '1.1', sessionId: expect.stringMatching(/^[0-9a-f-]{36}$/) }
    expect(await fields(world.client, 'nfcService', world.vm('off').value)).toEqual({ ...common, host: '127.0.0.1', service: 'vpxa-nfc' })
    expect(await fields(esxi, 'ha-nfc-service', world.vm('off', 'esxi').value)).toEqual({ ...common, service: 'nfc' })
    await expect(esxi.call('NfcGetVmFiles', '<_this type="NfcService">ha-nfc</_this>', '<vm type="VirtualMachine">1</vm>')).rejects.toThrow(
      'ManagedObjectNotFound',
    )
    const service = '<_this type="NfcService">ha-nfc-service</_this>'
    await expect(esxi.call('NfcGetServerNfcLibVersion', service)).rejects.toThrow('InvalidArgument')
    const version = await esxi.call('NfcGetServerNfcLibVersion', service, '<hostForAccess type="HostSystem">ha-host</hostForAccess>')
    expect(version.children[0]?.text).toBe('11')
  })
})

describe('writing', () => {
  test('what was written to a powered-off VM’s disk reads back, and nothing else changed', async () => {
    const [disk] = (await world.lab.control.state()).vms.find((vm) => vm.name === 'off')?.disks ?? []
    const path = disk?.fileName ?? ''
    const image = Buffer.alloc(8 * MIB)
    const pieces = [
      [0, 512],
      [65_536 - 512, 1024],
      [MIB, 3 * MIB + 512],
      [8 * MIB - 512, 512],
    ] as const
    for (const encrypted of [true, false]) {
      const session = await world.session(await world.writeTicket('off', disk?.key ?? 0), { encrypted })
      const sink = createNfcSink(session, await session.openDisk(path, 'write'), { fresh: false })
      for (const [offset, length] of pieces) {
        const data = Buffer.alloc(length, encrypted ? 0xa5 : 0x3c)
        data.copy(image, offset)
        await sink.write(offset, data)
      }
      await sink.flush()
      await sink[Symbol.asyncDispose]()
      const { disk: source } = await world.open('off', path, { encrypted })
      const back = Buffer.alloc(image.length)
      await source.read(0, back)
      expect(back.equals(image)).toBe(true)
      await source[Symbol.asyncDispose]()
    }
    expect(await world.isClean()).toBe(true)
  })

  test('the map of allocated blocks does not know of writes on the same handle', async () => {
    const disks = (await world.lab.control.state()).vms.find((vm) => vm.name === 'other')?.disks ?? []
    const session = await world.session(await world.writeTicket('other', disks[0]?.key ?? 0))
    await session.openDisk(disks[0]?.fileName ?? '', 'write')
    const before = await session.allocated(0, 64 * KIB, 16)
    await session.write(512 * KIB, Buffer.alloc(64 * KIB, 1), 'none')
    expect(await session.allocated(0, 64 * KIB, 16)).toEqual(before)
    await session[Symbol.asyncDispose]()
    const again = await world.open('other', disks[0]?.fileName ?? '')
    expect((await again.session.allocated(0, 64 * KIB, 16))[1]).toBe((before[1] ?? 0) | 1)
    await again.disk[Symbol.asyncDispose]()
  })
})

describe('each fault of the server ends with its error and never with wrong bytes', () => {
  /** Reading the whole disk under this rule gives the error, or the right digest where the fault is one a client must live with. */
  const cases: readonly (readonly [rule: FaultRule, outcome: ErrorCode | 'right', compression?: 'none' | 'zlib' | 'fastlz' | 'skipz'])[] = [
    [{ on: 'nfc:greeting', nfc: 'noSha256' }, 'right'],
    [{ on: 'nfc:greeting', nfc: 'noNfcssl' }, 'UNAVAILABLE'],
    [{ on: 'nfc:greeting', nfc: 'longLine' }, 'INTEGRITY'],
    [{ on: 'nfc:greeting', nfc: 'not220' }, 'INTEGRITY'],
    [{ on: 'nfc:greeting', nfc: 'maintenance' }, 'UNAVAILABLE'],
    [{ on: 'nfc:greeting', cut: 'before' }, 'UNAVAILABLE'],
    [{ on: 'nfc:tls', nfc: 'otherCertificate' }, 'AUTH'],
    [{ on: 'nfc:tls', nfc: 'wrongSha256' }, 'AUTH'],
    [{ on: 'nfc:tls2', nfc: 'otherSecondCertificate' }, 'AUTH'],
    [{ on: 'nfc:ticket', nfc: 'wrongThumbprint' }, 'AUTH'],
    [{ on: 'nfc:proxy', nfc: 'unknown' }, 'AUTH'],
    [{ on: 'nfc:proxy', nfc: 'spent' }, 'AUTH'],
    [{ on: 'nfc:proxy', nfc: 'expired' }, 'AUTH'],
    [{ on: 'nfc:line', object: 'PROXY', cut: 'before' }, 'UNAVAILABLE'],
    [{ on: 'nfc:frame', nfc: 'holdParameters' }, 'right'],
    [{ on: 'nfc:frame', nfc: 'looseRecords' }, 'right'],
    [{ on: 'nfc:frame', object: '51', nfc: 'version', value: 9 }, 'right'],
    [{ on: 'nfc:frame', object: '51', nfc: 'version', value: 2 }, 'UNAVAILABLE'],
    [{ on: 'nfc:frame', object: '51', nfc: 'end' }, 'UNAVAILABLE'],
    [{ on: 'nfc:frame', object: '51', nfc: 'errorFrame' }, 'UNAVAILABLE'],
    [{ on: 'nfc:session', nfc: 'memoryFull' }, 'UNAVAILABLE'],
    [{ on: 'nfc:session', nfc: 'sessionLimit' }, 'UNAVAILABLE'],
    [{ on: 'nfc:session', nfc: 'bufferRefused' }, 'UNAVAILABLE'],
    [{ on: 'nfc:session', cutAfterBytes: 100_000 }, 'UNAVAILABLE'],
    [{ on: 'nfc:open', nfc: 'multiwriter' }, 'CONFLICT'],
    [{ on: 'nfc:open', nfc: 'locked' }, 'CONFLICT'],
    [{ on: 'nfc:open', nfc: 'permission' }, 'AUTH'],
    [{ on: 'nfc:open', nfc: 'memoryFull' }, 'UNAVAILABLE'],
    [{ on: 'nfc:open', nfc: 'statusOnly' }, 'UNAVAILABLE'],
    [{ on: 'nfc:open', nfc: 'oddCapacity' }, 'INTEGRITY'],
    [{ on: 'nfc:open', nfc: 'noSectorSize' }, 'right'],
    [{ lockHeld: true }, 'CONFLICT'],
    [{ on: 'nfc:read', nfc: 'oddChunks' }, 'right'],
    [{ on: 'nfc:read', nfc: 'oddChunks' }, 'right', 'fastlz'],
    [{ on: 'nfc:read', nfc: 'oddFirst' }, 'right'],
    [{ on: 'nfc:read', nfc: 'hold', value: 3 }, 'right'],
    [{ on: 'nfc:read', delayMs: 30, times: 3 }, 'right'],
    [{ on: 'nfc:read', nth: 2, nfc: 'status', value: 13 }, 'UNAVAILABLE'],
    [{ on: 'nfc:read', nth: 2, nfc: 'pastEnd' }, 'INTEGRITY'],
    [{ on: 'nfc:read', nth: 2, nfc: 'overlap' }, 'INTEGRITY'],
    [{ on: 'nfc:read', nth: 2, nfc: 'wireLength' }, 'INTEGRITY', 'none'],
    [{ on: 'nfc:read', nth: 2, nfc: 'wireLength' }, 'INTEGRITY', 'skipz'],
    [{ on: 'nfc:read', nfc: 'badData' }, 'INTEGRITY', 'none'],
    [{ on: 'nfc:read', nfc: 'badData' }, 'INTEGRITY', 'zlib'],
    [{ on: 'nfc:read', nfc: 'badData' }, 'INTEGRITY', 'fastlz'],
    [{ on: 'nfc:read', nfc: 'badData' }, 'INTEGRITY', 'skipz'],
    [{ on: 'nfc:read', nfc: 'runPastEnd' }, 'INTEGRITY'],
    [{ on: 'nfc:read', nfc: 'stored' }, 'right', 'zlib'],
    [{ on: 'nfc:read', nfc: 'stored' }, 'right', 'fastlz'],
    [{ on: 'nfc:read', nfc: 'stored' }, 'right', 'skipz'],
    [{ on: 'nfc:read', nth: 2, nfc: 'cutChunk' }, 'UNAVAILABLE'],
    [{ on: 'nfc:read', nth: 2, cutAfterBytes: 5000 }, 'UNAVAILABLE', 'none'],
    [{ on: 'nfc:read', nth: 2, nfc: 'error' }, 'UNAVAILABLE'],
    [{ on: 'nfc:read', nth: 2, nfc: 'badMagic' }, 'INTEGRITY'],
    [{ on: 'nfc:read', nth: 2, nfc: 'badOpId' }, 'INTEGRITY'],
  ]
  for (const [rule, outcome, compression = 'skipz'] of cases) {
    test(`${JSON.stringify(rule)} with ${compression}: ${outcome}`, async () => {
      const { sha256 } = await freeze('sesparse')
      const reading = faulty(rule, () => readAll('sesparse', { compression, bufferBytes: 64 * KIB }))
      if (outcome === 'right') expect(await reading).toBe(sha256)
      else expect(await codeOf(reading)).toBe(outcome)
      expect(await world.isClean()).toBe(true)
    })
  }

  test('the host drops the connection at each line, frame and record', async () => {
    const { sha256 } = await freeze('odd')
    for (const on of ['nfc:line', 'nfc:frame', 'nfc:record']) {
      for (let nth = 1; nth < 20; nth++) {
        const code = await codeOf(faulty({ on, nth, cut: 'before' }, async () => expect(await readAll('odd')).toBe(sha256)))
        expect([on, nth, code]).toEqual([on, nth, expect.stringMatching(/^(UNAVAILABLE|no error)$/)])
        expect(nth === 1 ? code : 'UNAVAILABLE').toBe('UNAVAILABLE')
      }
    }
    expect(await world.isClean()).toBe(true)
  })

  test('the map of allocated blocks: another count, a refusal', async () => {
    const { path } = await freeze('sesparse')
    for (const [nfc, code] of [
      ['wrongCount', 'INTEGRITY'],
      ['error', 'UNAVAILABLE'],
    ] as const) {
      const asked = faulty({ on: 'nfc:query', nfc }, async () => {
        const { disk } = await world.open('sesparse', path)
        await using _closed = disk
        for await (const _extent of disk.extents({ offset: 0, length: disk.size })) continue
      })
      expect([nfc, await codeOf(asked)]).toEqual([nfc, code])
    }
  })

  test('a write that is refused, cut or answered with a status fails; a late one does not', async () => {
    const [disk] = (await world.lab.control.state()).vms.find((vm) => vm.name === 'off')?.disks ?? []
    const writing = (rule: FaultRule): Promise<void> =>
      faulty(rule, async () => {
        await using session = await world.session(await world.writeTicket('off', disk?.key ?? 0), { bufferBytes: 64 * KIB })
        await session.openDisk(disk?.fileName ?? '', 'write')
        await session.write(0, Buffer.alloc(256 * KIB, 7), 'none')
      })
    expect(await codeOf(writing({ on: 'nfc:write', nth: 2, nfc: 'error' }))).toBe('UNAVAILABLE')
    expect(await codeOf(writing({ on: 'nfc:write', nth: 3, nfc: 'cutChunk' }))).toBe('UNAVAILABLE')
    expect(await codeOf(writing({ on: 'nfc:write', nth: 1, nfc: 'status' }))).toBe('UNAVAILABLE')
    expect(await codeOf(writing({ on: 'nfc:write', nth: 1, delayMs: 100 }))).toBe('no error')
    expect(await world.isClean()).toBe(true)
  })

  test('a half-open socket keeps the lock for a while', async () => {
    const [disk] = (await world.lab.control.state()).vms.find((vm) => vm.name === 'off')?.disks ?? []
    await faulty({ on: 'nfc:gone', nfc: 'halfOpen', value: 300, times: 1 }, async () => {
      await faulty({ on: 'nfc:read', cut: 'before', times: 1 }, async () => {
        const { disk: source } = await world.open('off', disk?.fileName ?? '')
        expect(await codeOf(source.read(0, Buffer.alloc(512)))).toBe('UNAVAILABLE')
        await source[Symbol.asyncDispose]()
      })
      const writer = await world.session(await world.writeTicket('off', disk?.key ?? 0))
      expect(await codeOf(writer.openDisk(disk?.fileName ?? '', 'write'))).toBe('CONFLICT')
      await systemClock.sleep(600)
      expect(await codeOf(writer.openDisk(disk?.fileName ?? '', 'write'))).toBe('no error')
      await writer[Symbol.asyncDispose]()
    })
    expect(await world.isClean()).toBe(true)
  })
})

describe('limits', () => {
  test('50 sessions opened and closed leave no lock, no memory and no socket; 20 at once are counted', async () => {
    const { path, sha256 } = await freeze('odd')
    for (let turn = 0; turn < 50; turn++) {
      const { disk } = await world.open('odd', path, { bufferBytes: 64 * KIB, encrypted: turn % 2 === 0 })
      await disk.read(0, Buffer.alloc(4096))
      await disk[Symbol.asyncDispose]()
    }
    expect(await world.isClean()).toBe(true)
    const open = await Promise.all(Array.from({ length: 20 }, () => world.open('odd', path, { bufferBytes: 64 * KIB })))
    const { nfc } = await world.lab.control.state()
    expect([nfc.sessions.length, nfc.connections, nfc.memoryBytes]).toEqual([20, 20, 20 * MIB])
    expect(await Promise.all(open.map(({ disk }) => digestOfSource(disk)))).toEqual(open.map(() => sha256))
    await Promise.all(open.map(({ disk }) => disk[Symbol.asyncDispose]()))
    expect(await world.isClean()).toBe(true)
  })

  test('the host’s buffer memory, its sessions and the connections through vCenter end', async () => {
    const small = (nfc: object): Promise<NfcWorld> =>
      openNfcWorld({
        taskMs: 0,
        nfc,
        datacenters: [
          {
            name: 'DC',
            hosts: [{ name: 'esx1' }],
            datastores: [{ name: 'v6' }],
            vms: [{ name: 'off', power: 'poweredOff', disks: [{ size: '1MiB' }] }],
          },
        ],
      })
    for (const [nfc, most, text] of [
      [{ memory: '8MiB' }, 2, 'Failed to allocate the requested 1048600 bytes'],
      [{ sessionsPerHost: 3 }, 3, 'maximum number of sessions'],
      [{ throughVcenter: 1 }, 1, 'maximum number of sessions'],
    ] as const) {
      await using tight = await small(nfc)
      await using stack = new AsyncDisposableStack()
      const open = async (kind: Kind = 'vcenter') => tight.session(await ticketToRead(tight.vsphere[kind], tight.vm('off', kind)))
      for (let count = 0; count < most; count++) stack.use(await open())
      await expect(open()).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining(text) })
      if ('throughVcenter' in nfc) stack.use(await open('esxi'))
      await stack.disposeAsync()
      expect(await tight.isClean()).toBe(true)
    }
  })

  test('a lab that is started again has the same NFC port, no session, and knows none of the old tickets', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'vcb-nfc-'))
    try {
      const first = await startLab({ directory, scenario: nfcScenario })
      const { port } = first.endpoints.nfc
      const client = await LabClient.login(first)
      const vm = (await first.control.state()).vms.find((each) => each.name === 'off')?.moref ?? ''
      const answer = await client.call(
        'NfcGetVmFiles',
        '<_this type="NfcService">nfcService</_this>',
        `<vm type="VirtualMachine">${vm}</vm>`,
      )
      const field = (name: string): string => answer.children[0]?.children.find((each) => each.name === name)?.text ?? ''
      const ticket = {
        host: field('host'),
        port,
        thumbprint: field('sslThumbprint'),
        service: field('service'),
        sessionId: field('sessionId'),
      }
      const session = await world.session(ticket)
      expect((await first.control.state()).nfc).toMatchObject({ connections: 1, sessions: [{ vm: 'off', encrypted: true }] })
      await first[Symbol.asyncDispose]()
      expect(await codeOf(session.openDisk('[v6] off/off.vmdk', 'read'))).toBe('UNAVAILABLE')
      await session[Symbol.asyncDispose]()
      await using again = await startLab({ directory })
      expect(again.endpoints.nfc.port).toBe(port)
      expect((await again.control.state()).nfc).toEqual({ connections: 0, memoryBytes: 0, sessions: [] })
      expect(await codeOf(world.session(ticket))).toBe('AUTH')
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })

  test('a client that says nothing, or rubbish, gets nothing', async () => {
    const { port } = world.lab.endpoints.nfc
    const said = async (first: string): Promise<string> =>
      new Promise((resolve) => {
        let text = ''
        const socket = connect(port, '127.0.0.1')
        socket.on('data', (piece) => {
          if (text === '') socket.write(first)
          text += piece.toString('latin1')
        })
        socket.on('close', () => resolve(text))
        socket.on('error', () => undefined)
      })
    expect(await said('SESSION abc\r\n')).toMatch(
      /^220 VMware Authentication Daemon Version 1\.10: SSL Required.*NFCSSL supported\/t, SHA256 supported\r\n/,
    )
    expect(await world.isClean()).toBe(true)
  })
})
