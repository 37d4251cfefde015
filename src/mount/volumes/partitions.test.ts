import { crc32 } from 'node:zlib'
import { expect, it } from 'vitest'
import { memorySource } from '../../disk/index.ts'
import { readPartitions } from './partitions.ts'

type Entry = { readonly type: number; readonly first: number; readonly sectors: number; readonly boot?: number }

function record(disk: Buffer, sector: number, entries: readonly Entry[]): void {
  for (const [index, entry] of entries.entries()) {
    const at = sector * 512 + 446 + 16 * index
    disk[at] = entry.boot ?? 0
    disk[at + 4] = entry.type
    disk.writeUInt32LE(entry.first, at + 8)
    disk.writeUInt32LE(entry.sectors, at + 12)
  }
  disk.writeUInt16LE(0xaa55, sector * 512 + 510)
}

const disk = (): Buffer => Buffer.alloc(512 * 400)
const read = (bytes: Buffer): ReturnType<typeof readPartitions> => readPartitions(memorySource(bytes))

it('a chain of logical partitions that leads back to its beginning ends, and is told', async () => {
  const bytes = disk()
  record(bytes, 0, [{ type: 5, first: 100, sectors: 200 }])
  record(bytes, 100, [
    { type: 0x83, first: 1, sectors: 9 },
    { type: 5, first: 20, sectors: 10 },
  ])
  record(bytes, 120, [
    { type: 0x83, first: 1, sectors: 9 },
    { type: 5, first: 0, sectors: 10 },
  ])
  const table = await read(bytes)
  expect(table?.partitions.map((entry) => [entry.index, entry.offset / 512])).toEqual([
    [5, 101],
    [6, 121],
  ])
  expect(table?.damage).toEqual(['the chain of logical partitions does not end (sector 100)'])
})

it('a chain that leads out of the disk keeps what was found before', async () => {
  const bytes = disk()
  record(bytes, 0, [{ type: 0x0f, first: 100, sectors: 200 }])
  record(bytes, 100, [
    { type: 0x83, first: 1, sectors: 9 },
    { type: 5, first: 0xffffff00, sectors: 10 },
  ])
  const table = await read(bytes)
  expect(table?.partitions).toHaveLength(1)
  expect(table?.damage[0]).toMatch(/no record of a logical partition/)
})

it('a boot indicator that is none, no signature and the boot sector of a file system are no table', async () => {
  const entry = { type: 7, first: 63, sectors: 100 }
  const odd = disk()
  record(odd, 0, [{ ...entry, boot: 0x41 }])
  expect(await read(odd)).toBeUndefined()
  const bare = disk()
  record(bare, 0, [entry])
  expect((await read(bare))?.partitions).toHaveLength(1)
  bare.writeUInt16LE(0, 510)
  expect(await read(bare)).toBeUndefined()
  for (const write of [
    (b: Buffer) => b.write('NTFS    ', 3),
    (b: Buffer) => b.write('FAT32   ', 82),
    (b: Buffer) => b.write('FAT16   ', 54),
  ]) {
    const boot = disk()
    record(boot, 0, [entry])
    boot[0] = 0xeb
    write(boot)
    expect(await read(boot)).toBeUndefined()
  }
})

it('an MBR without a protective entry counts, though an old GPT lies behind it', async () => {
  const bytes = gptDisk()
  record(bytes, 0, [{ type: 0x83, first: 63, sectors: 100 }])
  expect((await read(bytes))?.scheme).toBe('mbr')
  record(bytes, 0, [{ type: 0xee, first: 1, sectors: 399 }])
  expect((await read(bytes))?.scheme).toBe('gpt')
  bytes.fill(0, 0, 512)
  expect((await read(bytes))?.scheme).toBe('gpt')
})

it('a GPT with impossible entries names them and gives them no bytes', async () => {
  const bytes = gptDisk((entries) => {
    entries.writeBigUInt64LE(90n, 32)
    entries.writeBigUInt64LE(80n, 40)
    entries.fill(0x11, 128, 160)
    entries.writeBigUInt64LE(2n ** 60n, 160)
    entries.writeBigUInt64LE(2n ** 61n, 168)
  })
  record(bytes, 0, [{ type: 0xee, first: 1, sectors: 399 }])
  const table = await read(bytes)
  expect(table?.partitions.map((entry) => [entry.length, entry.wrong])).toEqual([
    [0, 'the table gives it a place that cannot be'],
    [0, 'the table gives it a place that cannot be'],
  ])
})

it('a disk that says it has a GPT and has none is told as damaged', async () => {
  const bytes = disk()
  record(bytes, 0, [{ type: 0xee, first: 1, sectors: 399 }])
  expect((await read(bytes))?.damage).toEqual(['the disk says it has a GPT, but there is none'])
})

it('a GPT of sectors of 4096 bytes is read in those', async () => {
  const bytes = gptDisk(undefined, 4096)
  record(bytes, 0, [{ type: 0xee, first: 1, sectors: 49 }])
  expect((await read(bytes))?.partitions).toMatchObject([{ offset: 40 * 4096, length: 8 * 4096 }])
})

function gptDisk(change?: (entries: Buffer) => void, sector = 512): Buffer {
  const bytes = Buffer.alloc(sector * 400)
  const entries = Buffer.alloc(128 * 8)
  entries.fill(0xa5, 0, 16)
  entries.fill(0x5a, 16, 32)
  entries.writeBigUInt64LE(40n, 32)
  entries.writeBigUInt64LE(47n, 40)
  change?.(entries)
  entries.copy(bytes, 2 * sector)
  const header = bytes.subarray(sector, sector + 92)
  header.write('EFI PART')
  header.writeUInt32LE(0x10000, 8)
  header.writeUInt32LE(92, 12)
  header.writeBigUInt64LE(1n, 24)
  header.writeBigUInt64LE(399n, 32)
  header.writeBigUInt64LE(2n, 72)
  header.writeUInt32LE(8, 80)
  header.writeUInt32LE(128, 84)
  header.writeUInt32LE(crc32(entries), 88)
  header.writeUInt32LE(crc32(header), 16)
  return bytes
}
