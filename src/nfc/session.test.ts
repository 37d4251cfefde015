import { randomBytes } from 'node:crypto'
import { duplexPair } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { ByteChannel, type Clock, systemClock } from '../core/index.ts'
import { createNfcDisk } from './nfc-disk.ts'
import { NfcSession } from './session.ts'

/* The host's side is a script of bytes: what comes is compared with the vectors of docs/formats/nfc.md, what goes back is written by hand. */

const HANDLE = 'e0a5409cffffffff'
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')
const zeros = (count: number): string => '00'.repeat(count)

/** A host that answers each request by the function of its type; keeps what it was sent. */
function scriptedHost(
  answers: Readonly<Record<number, (opId: string, payload: Buffer, tail: Buffer) => Buffer | undefined | Promise<Buffer>>>,
) {
  const [ours, theirs] = duplexPair()
  const channel = new ByteChannel(theirs, { peer: 'script', protocol: 'NFC' })
  const requests: Buffer[] = []
  const tails: Readonly<Record<number, (payload: Buffer) => number>> = {
    4: (payload) => payload.readUInt32LE(0),
    7: (payload) => (payload.readUInt32LE(8) === 0 ? payload.readUInt32LE(36) : 0),
    11: (payload) => payload.readUInt32LE(8),
  }
  const serve = async (): Promise<void> => {
    for (;;) {
      const header = await channel.take(16)
      if (header.readUInt32LE(0) === 4) return
      const payload = await channel.take(header.readUInt32LE(8))
      const type = header.readUInt32LE(4)
      const tail = await channel.take(tails[type]?.(payload) ?? 0)
      requests.push(Buffer.concat([header, payload, tail]))
      const opId = header.subarray(12, 16).toString('hex')
      const answer =
        (await answers[type]?.(opId, payload, tail)) ??
        hex(`7ada00a1 ${header.subarray(4, 8).toString('hex')} ${header.subarray(8, 12).toString('hex')} ${opId} ${zeros(payload.length)}`)
      if (answer.length > 0) await channel.write(answer)
    }
  }
  const served = serve().catch(() => undefined) // the session under test ends the connection
  return { channel: new ByteChannel(ours, { peer: 'esx1', protocol: 'NFC' }), requests, served }
}

/** Three GiB in sectors of 512, as the document's example. */
const opened = (opId: string): Buffer =>
  hex(
    `7ada00a1 04000000 3c000000 ${opId} ${zeros(8)} ${HANDLE} 02000000 1e000000 00000000 000000c000000000 00020000 87010000 ff000000 3f000000 ${zeros(8)}`,
  )

/** One chunk of a read's reply. */
function chunk(
  opId: string,
  request: Buffer,
  at: { position: number; length: number; code?: number; status?: number },
  tail: Buffer,
): Buffer {
  const reply = Buffer.alloc(60)
  hex(`7ada00a1 07000000 2c000000 ${opId}`).copy(reply)
  reply.writeBigUInt64LE(BigInt(at.status ?? 0), 16)
  reply.writeUInt32LE(1, 24)
  reply.writeUInt32LE(at.code ?? 0, 28)
  request.copy(reply, 32, 16, 24)
  reply.writeUInt32LE(request.readUInt32LE(32), 40)
  reply.writeUInt32LE(at.position, 44)
  reply.writeUInt32LE(at.length, 48)
  reply.writeUInt32LE(tail.length, 52)
  return Buffer.concat([reply, tail])
}

async function session(answers: Parameters<typeof scriptedHost>[0], clock: Clock = systemClock) {
  const host = scriptedHost({ 4: opened, ...answers })
  const made = await NfcSession.open(host.channel, { host: 'esx1', clock })
  const info = await made.openDisk('[lab-ds1] web01/web01.vmdk', 'read')
  return { ...host, session: made, info }
}

describe('an NFC session', () => {
  it('sends the documented bytes and understands the answers', async () => {
    const data = randomBytes(4096)
    const {
      session: made,
      info,
      requests,
      served,
    } = await session({ 7: (opId, payload) => chunk(opId, payload, { position: 0, length: 4096 }, data) })
    expect(info).toEqual({ handle: 0xffffffff9c40a5e0n, capacity: 3 * 2 ** 30, geometry: { cylinders: 391, heads: 255, sectors: 63 } })
    await made.allocated(0, 65536, 32, {}).catch(() => undefined) // moves the counter on: the script answers nothing of use
    const into = Buffer.alloc(4096)
    await made.read(1024 * 1024, into, 'skipz')
    expect(into.equals(data)).toBe(true)
    await made[Symbol.asyncDispose]()
    await served
    expect(requests.map((request) => request.toString('hex'))).toEqual(
      [
        '7ada00a1 02000000 10000000 00000000 00000000 00001000 04000000 00000000',
        `7ada00a1 09000000 0c000000 01000000 ${zeros(12)}`,
        '7ada00a1 16000000 04000000 02000000 01000000',
        `7ada00a1 04000000 3c000000 03000000 1a000000 ${zeros(12)} 02000000 1e000000 ${zeros(36)} 5b6c61622d6473315d2077656230312f77656230312e766d646b`,
        `7ada00a1 0d000000 30000000 04000000 ${HANDLE} ${zeros(8)} 0000010000000000 ${zeros(8)} 2000000000000000 ${zeros(8)}`,
        `7ada00a1 07000000 2c000000 05000000 ${HANDLE} 01000000 03000000 0000100000000000 0010000000000000 00100000 00100000 00000000`,
        `7ada00a1 05000000 08000000 06000000 ${HANDLE}`,
        '7ada00a1 03000000 04000000 07000000 00000000',
      ].map((text) => text.replaceAll(' ', '')),
    )
  })

  it('puts chunks together that come out of order and in another compression', async () => {
    const data = randomBytes(3000)
    const skipz = Buffer.alloc(24)
    skipz.writeUInt32LE(1096, 0)
    skipz.writeUInt32LE(1000, 8)
    skipz.writeUInt32LE(8, 12)
    skipz.write('the end!', 16)
    const { session: made } = await session({
      7: (opId, payload) =>
        Buffer.concat([
          chunk(opId, payload, { position: 3000, length: 1096, code: 3 }, skipz),
          chunk(opId, payload, { position: 7, length: 2993 }, data.subarray(7)),
          chunk(opId, payload, { position: 0, length: 7 }, data.subarray(0, 7)),
        ]),
    })
    const into = Buffer.alloc(4096, 1)
    await made.read(0, into, 'none')
    expect(into.subarray(0, 3000).equals(data)).toBe(true)
    expect(into.subarray(4000, 4008).toString()).toBe('the end!')
    expect(into.subarray(3000, 4000).equals(Buffer.alloc(1000))).toBe(true)
    await made[Symbol.asyncDispose]()
  })

  it.each([
    [
      'overlaps',
      (opId: string, payload: Buffer) =>
        Buffer.concat([
          chunk(opId, payload, { position: 0, length: 512 }, Buffer.alloc(512)),
          chunk(opId, payload, { position: 511, length: 100 }, Buffer.alloc(100)),
        ]),
    ],
    ['leaves the read', (opId: string, payload: Buffer) => chunk(opId, payload, { position: 4000, length: 100 }, Buffer.alloc(100))],
    ['is empty', (opId: string, payload: Buffer) => chunk(opId, payload, { position: 0, length: 0 }, Buffer.alloc(0))],
    [
      'has more bytes than it says',
      (opId: string, payload: Buffer) => chunk(opId, payload, { position: 0, length: 512 }, Buffer.alloc(513)),
    ],
    ['answers nobody', (_opId: string, payload: Buffer) => chunk('ff000000', payload, { position: 0, length: 4096 }, Buffer.alloc(4096))],
    ['has no magic', () => Buffer.alloc(64)],
  ])('ends when a chunk %s', async (_name, answer) => {
    const { session: made } = await session({ 7: answer })
    await expect(made.read(0, Buffer.alloc(4096), 'none')).rejects.toMatchObject({ code: 'INTEGRITY' })
    await expect(made.read(0, Buffer.alloc(4096), 'none')).rejects.toMatchObject({ code: 'INTEGRITY' })
    await made[Symbol.asyncDispose]()
  })

  it('reads the ordinary answer behind an error record and stays usable', async () => {
    const text = "NfcAioProcessOpenFileMsg: permission check failed for file '[lab-ds1] db02/db02.vmdk', access = 1"
    let refused = false
    const host = scriptedHost({
      4: (opId) => {
        if (refused) return opened(opId)
        refused = true
        const length = Buffer.alloc(4)
        length.writeUInt32LE(text.length, 0)
        return Buffer.concat([
          hex(`7ada00a1 01000000 10000000 ${opId} 0b00000000000000 00000000`),
          length,
          Buffer.from(text),
          hex(`7ada00a1 04000000 3c000000 ${opId} ${zeros(60)}`),
        ])
      },
    })
    const made = await NfcSession.open(host.channel, { host: 'esx1', clock: systemClock })
    await expect(made.openDisk('[lab-ds1] db02/db02.vmdk', 'read')).rejects.toMatchObject({
      code: 'AUTH',
      message: expect.stringContaining('permission check failed'),
    })
    expect((await made.openDisk('[lab-ds1] web01/web01.vmdk', 'read')).capacity).toBe(3 * 2 ** 30)
    await made[Symbol.asyncDispose]()
  })

  it('ends every request when the connection breaks', async () => {
    const { session: made, channel } = await session({ 7: () => Buffer.alloc(0) })
    const reads = [0, 4096].map((offset) => made.read(offset, Buffer.alloc(4096), 'none'))
    channel.stream.destroy()
    for (const read of reads) await expect(read).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })

  it('writes nothing into the buffer of a caller that has gone', async () => {
    const gate = Promise.withResolvers<undefined>()
    const { session: made } = await session({
      7: async (opId, payload) => {
        await gate.promise
        return chunk(opId, payload, { position: 0, length: 512 }, Buffer.alloc(512, 9))
      },
    })
    const cancel = new AbortController()
    const abandoned = Buffer.alloc(512, 7)
    const read = made.read(0, abandoned, 'none', { signal: cancel.signal })
    cancel.abort()
    await expect(read).rejects.toMatchObject({ code: 'CANCELED' })
    gate.resolve(undefined)
    const later = Buffer.alloc(512)
    await made.read(512, later, 'none')
    expect(later.equals(Buffer.alloc(512, 9))).toBe(true)
    expect(abandoned.equals(Buffer.alloc(512, 7))).toBe(true)
    await made[Symbol.asyncDispose]()
  })
})

/** Time that passes when it is told to. */
function manualClock(): { readonly clock: Clock; readonly pass: (ms: number) => Promise<void> } {
  let now = 0
  const repeated = new Set<() => void | Promise<void>>()
  return {
    clock: {
      ...systemClock,
      monotonicMs: () => now,
      every: (_ms, run) => {
        repeated.add(run)
        return { [Symbol.dispose]: () => void repeated.delete(run) }
      },
    },
    pass: async (ms) => {
      now += ms
      for (const run of repeated) await run()
      // What was set off is through.
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
    },
  }
}

describe('time in an NFC session', () => {
  it('a cancel does not wait for a host that never opens the session', async () => {
    const cancel = new AbortController()
    const { channel, served } = scriptedHost({ 2: () => Buffer.alloc(0) })
    const opening = NfcSession.open(channel, { host: 'esx1', clock: systemClock, signal: cancel.signal })
    cancel.abort()
    await expect(opening).rejects.toMatchObject({ code: 'CANCELED' })
    await served
  })

  it('ends it after 60 s of silence in a read, not while answers come', async () => {
    const { clock, pass } = manualClock()
    const { session: made } = await session({ 7: () => Buffer.alloc(0) }, clock)
    const read = made.read(0, Buffer.alloc(512), 'none')
    const failed = expect(read).rejects.toMatchObject({ code: 'UNAVAILABLE', message: 'esx1 was silent for 61 s in an NFC session.' })
    await pass(59_000)
    await pass(2000)
    await failed
    await expect(made.read(0, Buffer.alloc(512), 'none')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })

  it('reads the first sector when nothing was asked for five minutes', async () => {
    const { clock, pass } = manualClock()
    const answer = (opId: string, payload: Buffer): Buffer => chunk(opId, payload, { position: 0, length: 512 }, Buffer.alloc(512))
    const { session: made, requests } = await session({ 7: answer }, clock)
    const reads = (): number => requests.filter((request) => request.readUInt32LE(4) === 7).length
    await pass(299_000)
    expect(reads()).toBe(0)
    await pass(2000)
    expect(reads()).toBe(1)
    expect(requests.at(-1)?.readBigUInt64LE(32)).toBe(0n)
    await pass(200_000)
    expect(reads()).toBe(1)
    await pass(101_000)
    expect(reads()).toBe(2)
    await made[Symbol.asyncDispose]()
    await pass(1_000_000)
    expect(reads()).toBe(2)
  })
})

describe('an NFC disk', () => {
  it('cuts reads into sectors and requests, and knows its holes', async () => {
    const bitmap = hex('0f800100')
    const {
      session: made,
      info,
      requests,
    } = await session({
      7: (opId, payload) => {
        const data = Buffer.alloc(payload.readUInt32LE(32), payload.readUInt32LE(16) / 512)
        return chunk(opId, payload, { position: 0, length: data.length }, data)
      },
      13: (opId, payload) =>
        Buffer.concat([hex(`7ada00a1 0d000000 30000000 ${opId} ${zeros(32)}`), payload.subarray(32, 40), Buffer.alloc(8), bitmap]),
    })
    await using disk = createNfcDisk(made, info, 'none')
    const into = Buffer.alloc(10)
    await disk.read(1020, into)
    expect([...into.subarray(0, 4)]).toEqual([1, 1, 1, 1])
    expect(requests.at(-1)?.readUInt32LE(48)).toBe(1024)
    await disk.read(0, Buffer.alloc(3 * 1024 * 1024))
    expect(requests.slice(-3).map((request) => request.readUInt32LE(48))).toEqual([1048576, 1048576, 1048576])
    const extents = []
    for await (const extent of disk.extents({ offset: 2 ** 30 + 100, length: 20 * 65536 - 100 })) extents.push(extent)
    const start = 2 ** 30
    expect(extents).toEqual([
      { offset: start + 100, length: 4 * 65536 - 100, kind: 'data' },
      { offset: start + 4 * 65536, length: 11 * 65536, kind: 'zero' },
      { offset: start + 15 * 65536, length: 2 * 65536, kind: 'data' },
      { offset: start + 17 * 65536, length: 3 * 65536, kind: 'zero' },
    ])
    await expect(disk.read(disk.size - 1, Buffer.alloc(2))).rejects.toMatchObject({ code: 'USAGE' })
  })
})
