import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { MIB } from '../../src/core/index.ts'
import { createCowDisk, memorySource, zeroSource } from '../../src/disk/index.ts'
import { blockSinkContract } from './block-sink-contract.ts'
import { blockSourceContract } from './block-source-contract.ts'

let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-cow-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

const SIZE = 5 * MIB + 1536

blockSourceContract('createCowDisk', async () => {
  const image = Buffer.alloc(SIZE)
  for (let at = 0; at < SIZE; at++) image[at] = at % 251
  image.fill(0, MIB, 2 * MIB)
  const source = await createCowDisk(
    memorySource(image, [
      { offset: 0, length: MIB, kind: 'data' },
      { offset: MIB, length: MIB, kind: 'zero' },
      { offset: 2 * MIB, length: SIZE - 2 * MIB, kind: 'data' },
    ]),
    { directory, limit: 4 * MIB },
  )
  for (const [offset, length, byte] of [
    [5, 10, 1],
    [1_100_000, 300_000, 2],
    [3_000_000, 65_536, 3],
    [SIZE - 600, 600, 4],
  ] as const) {
    await source.write(offset, Buffer.alloc(length, byte))
    image.fill(byte, offset, offset + length)
  }
  await source.zero({ offset: 4 * MIB, length: 200_000 })
  image.fill(0, 4 * MIB, 4 * MIB + 200_000)
  return { source, image }
})

blockSinkContract(
  'createCowDisk',
  async (size) => {
    const sink = await createCowDisk(zeroSource(size), { directory, limit: 8 * MIB })
    const image = Buffer.alloc(size)
    return {
      sink: {
        size,
        write: (offset, data) => sink.write(offset, data),
        zero: (range) => sink.zero(range),
        flush: () => sink.flush(),
        [Symbol.asyncDispose]: async () => {
          await sink.read(0, image)
          await sink[Symbol.asyncDispose]()
        },
      },
      image: async () => image,
    }
  },
  { abandoned: 'nothing of it outlives its disposal either way' },
)
