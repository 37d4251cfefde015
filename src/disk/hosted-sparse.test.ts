import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AgentError, isAgentError } from '../core/index.ts'
import { exportDisk } from './export-disk.ts'
import { faulty } from './faulty.ts'
import { openHostedSparse } from './hosted-sparse.ts'
import { memoryBytes } from './memory-bytes.ts'
import { memorySource } from './memory-source.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-hosted-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

const SIZE = 40 * 1024 * 1024
async function piece(): Promise<Buffer> {
  const image = Buffer.alloc(SIZE)
  image.fill(5, 65_536, 65_536 * 3)
  await exportDisk(memorySource(image), directory, 'd', 'split-sparse')
  return readFileSync(join(directory, 'd-s001.vmdk'))
}

/** Two tables: redundant directory at sector 1, its tables at 2 and 6, primary at 10 with tables at 11 and 15. */
const DIRECTORY = 10 * 512
const TABLE = 11 * 512

describe('openHostedSparse', () => {
  for (const [what, change, message] of [
    ['a header of another kind', (bytes: Buffer) => bytes.fill(0, 0, 4), /does not begin with KDMV/],
    ['version 4', (bytes: Buffer) => bytes.writeUInt32LE(4, 4), /version 4/],
    ['flags nobody knows', (bytes: Buffer) => bytes.writeUInt32LE(0x80000003, 8), /flags 0x80000003/],
    ['a text-mode transfer', (bytes: Buffer) => bytes.writeUInt8(0x0d, 73), /text mode/],
    ['a strange grain', (bytes: Buffer) => bytes.writeBigUInt64LE(100n, 20), /grains of 100/],
    ['another table size', (bytes: Buffer) => bytes.writeUInt32LE(1024, 44), /1024 entries/],
    ['a capacity no table can hold', (bytes: Buffer) => bytes.writeBigUInt64LE(2n ** 50n, 12), /capacity/],
    ['a capacity beyond numbers', (bytes: Buffer) => bytes.writeBigUInt64LE(2n ** 60n, 12), /too large to be true/],
    ['a directory outside', (bytes: Buffer) => bytes.writeBigUInt64LE(2n ** 30n, 56), /beyond that/],
    ['no directory', (bytes: Buffer) => bytes.writeBigUInt64LE(0n, 56), /no grain directory/],
    ['a compression nobody knows', (bytes: Buffer) => bytes.writeUInt16LE(9, 77), /compression method 9/],
    ['a wiped primary directory', (bytes: Buffer) => bytes.fill(0, DIRECTORY, DIRECTORY + 8), /directories that differ/],
    ['tables that differ', (bytes: Buffer) => bytes.writeUInt32LE(0, TABLE + 4), /copies of grain table 0 that differ/],
    ['a table outside', (bytes: Buffer) => bytes.writeUInt32LE(0x7fffffff, DIRECTORY), /beyond that/],
    [
      'a grain outside',
      (bytes: Buffer) => (bytes.writeUInt32LE(0x7fffffff, TABLE + 4), bytes.writeUInt32LE(0x7fffffff, 2 * 512 + 4)),
      /beyond that/,
    ],
    [
      'a grain inside the tables',
      (bytes: Buffer) => (bytes.writeUInt32LE(3, TABLE + 4), bytes.writeUInt32LE(3, 2 * 512 + 4)),
      /inside its own tables/,
    ],
    [
      'a zero mark not announced',
      (bytes: Buffer) => (bytes.writeUInt32LE(1, TABLE + 4), bytes.writeUInt32LE(1, 2 * 512 + 4)),
      /without announcing/,
    ],
  ] as const) {
    it(`refuses ${what}`, async () => {
      const bytes = await piece()
      change(bytes)
      const read = async (): Promise<void> => {
        await using layer = await openHostedSparse(memoryBytes(bytes))
        await layer.read(0, new Uint8Array(SIZE))
      }
      await expect(read()).rejects.toThrow(message)
      await expect(read()).rejects.toSatisfy((error) => isAgentError(error, 'INTEGRITY'))
    })
  }

  it('reads zero marks as zeros when the header announces them', async () => {
    const bytes = await piece()
    bytes.writeUInt32LE(bytes.readUInt32LE(8) | 4, 8)
    bytes.writeUInt32LE(1, TABLE + 4)
    bytes.writeUInt32LE(1, 2 * 512 + 4)
    await using layer = await openHostedSparse(memoryBytes(bytes))
    const kinds: string[] = []
    for await (const extent of layer.extents({ offset: 0, length: SIZE })) kinds.push(`${extent.kind} ${extent.length / 65_536}`)
    expect(kinds).toEqual(['absent 1', 'zero 1', 'data 1', 'absent 637'])
  })
})

describe('exportDisk', () => {
  for (const format of ['flat', 'split-sparse', 'streamOptimized'] as const) {
    it(`leaves nothing of a ${format} export that fails, and nothing else is touched`, async () => {
      writeFileSync(join(directory, 'other'), 'kept')
      const source = faulty(memorySource(Buffer.alloc(8 * 1024 * 1024, 1)), ({ kind, count }) => {
        if (kind === 'read' && count === 5) throw new AgentError('UNAVAILABLE', 'The line was cut.')
      })
      await expect(exportDisk(source, directory, 'd', format)).rejects.toSatisfy((error) => isAgentError(error, 'UNAVAILABLE'))
      expect(readdirSync(directory)).toEqual(['other'])
    })

    it(`stops a ${format} export when canceled`, async () => {
      const controller = new AbortController()
      const source = memorySource(Buffer.alloc(64 * 1024 * 1024, 1))
      const onProgress = (): void => controller.abort()
      await expect(exportDisk(source, directory, 'd', format, { signal: controller.signal, onProgress })).rejects.toSatisfy((error) =>
        isAgentError(error, 'CANCELED'),
      )
      expect(readdirSync(directory)).toEqual([])
    })

    it(`does not overwrite with a ${format} export`, async () => {
      writeFileSync(join(directory, 'd.vmdk'), 'kept')
      await expect(exportDisk(memorySource(Buffer.alloc(512)), directory, 'd', format)).rejects.toSatisfy((error) =>
        isAgentError(error, 'CONFLICT'),
      )
      expect(readFileSync(join(directory, 'd.vmdk'), 'utf8')).toBe('kept')
    })

    it(`reports the progress of a ${format} export up to the end`, async () => {
      const seen: number[] = []
      await exportDisk(memorySource(Buffer.alloc(5 * 1024 * 1024, 1)), directory, 'd', format, {
        onProgress: ({ doneBytes }) => seen.push(doneBytes),
      })
      expect(seen.length).toBeGreaterThan(3)
      expect(seen).toEqual([...seen].sort((a, b) => a - b))
      expect(seen.at(-1)).toBe(5 * 1024 * 1024)
    })
  }

  it('refuses names that are no file names, odd sizes and single links', async () => {
    const source = memorySource(Buffer.alloc(512))
    for (const name of ['../d', 'a/b', '', '.', 'a"b', 'a\nb']) {
      await expect(exportDisk(source, directory, name, 'flat')).rejects.toSatisfy((error) => isAgentError(error, 'USAGE'))
    }
    await expect(exportDisk(memorySource(Buffer.alloc(513)), directory, 'd', 'flat')).rejects.toSatisfy((error) =>
      isAgentError(error, 'USAGE'),
    )
    const link = memorySource(Buffer.alloc(512), [{ offset: 0, length: 512, kind: 'absent' }])
    await expect(exportDisk(link, directory, 'd', 'flat')).rejects.toSatisfy((error) => isAgentError(error, 'USAGE'))
    expect(readdirSync(directory)).toEqual([])
  })
})
