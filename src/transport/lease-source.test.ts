import { describe, expect, it } from 'vitest'
import { AgentError, type Extent, MIB, type Range, silentLog } from '../core/index.ts'
import type { StreamGrain } from '../disk/index.ts'
import { type GrainStream, streamSource } from './lease-source.ts'
import type { OpenDisk } from './transport.ts'

const GRAIN = 65_536
const SIZE = 96 * MIB + 512

/** Every fourth grain of the first third is there, all of the second, none of the last. */
const isThere = (grain: number): boolean => (grain < 512 ? grain % 4 === 1 : grain < 1024)
const byteAt = (grain: number): number => (grain % 251) + 1
const model = Buffer.alloc(SIZE)
for (let grain = 0; grain * GRAIN < SIZE; grain++) if (isThere(grain)) model.fill(byteAt(grain), grain * GRAIN, (grain + 1) * GRAIN)

type Counts = { opened: number; disposed: number; taken: number }

/** The disk above as a stream; `failAt`: the grain instead of which the stream breaks. */
function stream(counts: Counts, failAt = Number.POSITIVE_INFINITY): GrainStream {
  counts.opened++
  let grain = 0
  return {
    next: async (): Promise<StreamGrain | undefined> => {
      while (grain * GRAIN < SIZE && !isThere(grain)) grain++
      if (grain >= failAt) throw new AgentError('UNAVAILABLE', 'The stream was cut.')
      if (grain * GRAIN >= SIZE) return undefined
      counts.taken++
      const offset = grain * GRAIN
      grain++
      return { offset, data: Buffer.alloc(Math.min(GRAIN, SIZE - offset), byteAt(grain - 1)) }
    },
    [Symbol.asyncDispose]: async () => {
      counts.disposed++
    },
  }
}

function open(failAt?: number): { readonly source: OpenDisk; readonly counts: Counts } {
  const counts: Counts = { opened: 0, disposed: 0, taken: 0 }
  const options = { size: SIZE, label: 'scsi0:0', log: silentLog, restart: async () => stream(counts, failAt) }
  return { source: streamSource(stream(counts, failAt), options), counts }
}

const bytes = async (source: OpenDisk, offset: number, length: number): Promise<Buffer> => {
  const into = Buffer.alloc(length, 0xee)
  await source.read(offset, into)
  return into
}

const collect = async (source: OpenDisk, range: Range): Promise<Extent[]> => Array.fromAsync(source.extents(range))

describe('a streamed disk as a source', () => {
  it('gives every byte to reads in the order of the disk, also many at once and out of step by some blocks', async () => {
    const { source, counts } = open()
    const order: number[] = []
    for (let block = 0; block < 96; block += 4) order.push(block + 3, block + 1, block, block + 2)
    const lanes = Array.from({ length: 8 }, async () => {
      for (let block = order.shift(); block !== undefined; block = order.shift()) {
        const got = await bytes(source, block * MIB, MIB)
        expect(got.equals(model.subarray(block * MIB, (block + 1) * MIB)), `block ${block}`).toBe(true)
      }
    })
    await Promise.all(lanes)
    expect((await bytes(source, SIZE - 1000, 1000)).equals(model.subarray(SIZE - 1000))).toBe(true)
    await source.finish?.()
    await source[Symbol.asyncDispose]()
    expect(counts).toMatchObject({ opened: 1, disposed: 1 })
  })

  it('knows what is zero a little ahead, calls the rest data, and never waits for reads that do not come', async () => {
    const { source } = open()
    let at = 0
    const zeros: Extent[] = []
    for (const extent of await collect(source, { offset: 0, length: SIZE })) {
      expect(extent.offset).toBe(at)
      at += extent.length
      if (extent.kind === 'zero') zeros.push(extent)
    }
    expect(at).toBe(SIZE)
    for (const { offset, length } of zeros) expect(model.subarray(offset, offset + length).every((byte) => byte === 0)).toBe(true)
    expect(zeros.length).toBeGreaterThan(100)
    await source[Symbol.asyncDispose]()
  })

  it('with reads following, the map is exact to the end', async () => {
    const { source, counts } = open()
    let data = 0
    for await (const extent of source.extents({ offset: 0, length: SIZE })) {
      if (extent.kind !== 'data') continue
      data += extent.length
      const got = await bytes(source, extent.offset, extent.length)
      expect(got.equals(model.subarray(extent.offset, extent.offset + extent.length))).toBe(true)
    }
    expect(data).toBe(counts.taken * GRAIN)
    expect(counts.opened).toBe(1)
    await source[Symbol.asyncDispose]()
  })

  it('serves the last 32 MiB from memory and begins the stream again for what lies before, a few times at most', async () => {
    const { source, counts } = open()
    await bytes(source, 63 * MIB, MIB)
    expect((await bytes(source, 40 * MIB, MIB)).equals(model.subarray(40 * MIB, 41 * MIB))).toBe(true)
    expect(counts.opened).toBe(1)
    for (let turn = 2; turn <= 9; turn++) {
      expect((await bytes(source, GRAIN, 512)).equals(model.subarray(GRAIN, GRAIN + 512))).toBe(true)
      expect(counts.opened).toBe(turn)
      await bytes(source, 63 * MIB, MIB)
    }
    await expect(bytes(source, 0, 512)).rejects.toMatchObject({ code: 'UNAVAILABLE', retry: 'never' })
    expect(counts.disposed).toBe(counts.opened)
    await source[Symbol.asyncDispose]()
  })

  it('a stream that breaks is given back before anybody hears of it, and every later read fails alike', async () => {
    const { source, counts } = open(600)
    const far = bytes(source, 50 * MIB, MIB)
    const near = bytes(source, 0, MIB)
    await expect(near).resolves.toBeDefined()
    await expect(far.catch((error: unknown) => ({ error, disposed: counts.disposed }))).resolves.toMatchObject({
      error: { code: 'UNAVAILABLE' },
      disposed: 1,
    })
    await expect(bytes(source, 60 * MIB, 512)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await expect(source.finish?.()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await source[Symbol.asyncDispose]()
  })

  it('an aborted read gets its buffer back untouched from then on; others go on', async () => {
    const { source } = open()
    const abort = new AbortController()
    const into = Buffer.alloc(MIB, 0xee)
    const read = source.read(40 * MIB, into, { signal: abort.signal })
    abort.abort()
    await expect(read).rejects.toMatchObject({ code: 'CANCELED' })
    const kept = Buffer.from(into)
    await bytes(source, 60 * MIB, MIB)
    expect(into.equals(kept)).toBe(true)
    await source[Symbol.asyncDispose]()
    await expect(bytes(source, 0, 1)).rejects.toMatchObject({ code: 'CANCELED' })
  })

  it('refuses what lies outside, and a stream that goes back', async () => {
    const { source } = open()
    await expect(bytes(source, SIZE - 1, 2)).rejects.toMatchObject({ code: 'USAGE' })
    await source[Symbol.asyncDispose]()
    const offsets = [GRAIN, 0]
    const back: GrainStream = {
      next: async () => {
        const offset = offsets.shift()
        return offset === undefined ? undefined : { offset, data: Buffer.alloc(GRAIN, 1) }
      },
      [Symbol.asyncDispose]: async () => undefined,
    }
    const broken = streamSource(back, { size: SIZE, label: 'scsi0:0', log: silentLog, restart: async () => back })
    await expect(bytes(broken, 0, 4 * GRAIN)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('goes back') })
    await broken[Symbol.asyncDispose]()
  })
})
