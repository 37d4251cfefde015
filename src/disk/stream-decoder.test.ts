import { describe, expect, it } from 'vitest'
import { AgentError, isAgentError } from '../core/index.ts'
import { openHostedSparse } from './hosted-sparse.ts'
import { memoryBytes } from './memory-bytes.ts'
import { memorySource } from './memory-source.ts'
import { decodeStreamOptimized } from './stream-decoder.ts'
import { streamOptimized } from './stream-writer.ts'

const SIZE = 40 * 1024 * 1024 + 512
const image = Buffer.alloc(SIZE)
for (const [offset, byte] of [
  [0, 1],
  [70_000, 2],
  [33 * 1024 * 1024, 3],
  [SIZE - 512, 4],
] as const) {
  image.fill(byte, offset, offset + 512)
}

async function written(): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of streamOptimized(memorySource(image), 'disk')) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function* inChunks(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function decode(bytes: Uint8Array, size = 1000): Promise<Buffer> {
  const stream = await decodeStreamOptimized(inChunks(bytes, size), 'stream')
  const out = Buffer.alloc(stream.capacityBytes)
  for await (const grain of stream.grains()) out.set(grain.data, grain.offset)
  return out
}

/** Whether decoding says INTEGRITY; a plain value, for a failed assertion must not print 40 MiB. */
const refuses = (bytes: Uint8Array): Promise<boolean> => decode(bytes, 65_536).then(() => false, damaged)

const damaged = (error: unknown): boolean => isAgentError(error, 'INTEGRITY')

describe('decodeStreamOptimized', () => {
  it('gives back what streamOptimized wrote, however it is cut into chunks', async () => {
    const bytes = await written()
    for (const size of [1, 511, 65_536, bytes.length]) expect((await decode(bytes, size)).equals(image)).toBe(true)
  })

  it('is written the same each time', async () => {
    expect((await written()).equals(await written())).toBe(true)
  })

  it('shows capacity and descriptor before the first grain', async () => {
    const stream = await decodeStreamOptimized(inChunks(await written(), 4096), 'stream')
    expect(stream.capacityBytes).toBe(SIZE)
    expect(stream.descriptor?.createType).toBe('streamOptimized')
    expect(stream.descriptor?.extents).toEqual([{ access: 'RW', sectors: SIZE / 512, type: 'SPARSE', file: 'disk.vmdk' }])
  })

  it('refuses a stream cut anywhere, as file and as stream', async () => {
    const bytes = await written()
    for (let length = 0; length < bytes.length; length += length < 2048 || length > bytes.length - 6000 ? 128 : 7000) {
      expect(await refuses(bytes.subarray(0, length)), `cut at ${length}`).toBe(true)
      await expect(openHostedSparse(memoryBytes(bytes.subarray(0, length))), `cut at ${length}`).rejects.toSatisfy(damaged)
    }
  })

  it('refuses a stream from which one grain was taken out, and one that goes on after its end', async () => {
    const bytes = await written()
    const first = 128 * 512
    const length = Math.ceil((12 + bytes.readUInt32LE(first + 8)) / 512) * 512
    expect(await refuses(Buffer.concat([bytes.subarray(0, first), bytes.subarray(first + length)]))).toBe(true)
    expect(await refuses(Buffer.concat([bytes, Buffer.from([1])]))).toBe(true)
    expect((await decode(Buffer.concat([bytes, Buffer.alloc(1024)]))).equals(image)).toBe(true)
  })

  it('refuses a grain whose data was changed', async () => {
    const bytes = await written()
    // The last byte of the checksum at the end of the zlib data.
    const last = 128 * 512 + 12 + bytes.readUInt32LE(128 * 512 + 8) - 1
    bytes.writeUInt8(bytes.readUInt8(last) ^ 1, last)
    expect(await refuses(bytes)).toBe(true)
    await using layer = await openHostedSparse(memoryBytes(bytes))
    await expect(layer.read(0, new Uint8Array(512))).rejects.toSatisfy(damaged)
  })

  it('passes the error of a broken connection on and ends its source when left early', async () => {
    const bytes = await written()
    let ended = 0
    async function* broken(): AsyncGenerator<Uint8Array> {
      try {
        yield bytes.subarray(0, 66_000)
        throw new AgentError('UNAVAILABLE', 'The line was cut.')
      } finally {
        ended++
      }
    }
    const stream = await decodeStreamOptimized(broken(), 'stream')
    await expect(
      (async () => {
        for await (const grain of stream.grains()) expect(grain.offset).toBeGreaterThanOrEqual(0)
      })(),
    ).rejects.toSatisfy((error) => isAgentError(error, 'UNAVAILABLE'))
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        yield* inChunks(bytes, 4096)
      } finally {
        ended++
      }
    }
    for await (const grain of (await decodeStreamOptimized(endless(), 'stream')).grains()) {
      expect(grain.offset).toBe(0)
      break
    }
    expect(ended).toBe(2)
  })
})
