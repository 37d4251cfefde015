import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { crc32, gunzipSync, gzipSync } from 'node:zlib'
import { isZero, MIB, readU64, SECTOR, writeU64 } from '../../core/index.ts'
import { LabStorageError } from './storage-error.ts'

/*
 * A small disk with a real file system, kept as its non-zero 4 KiB blocks: gzip of {8 bytes "VCBLABFX", u64 image size, u32 block count,
 * count x u32 block number, the blocks}. scripts/make-guest-fixtures.sh makes them.
 */
const MAGIC = 'VCBLABFX'
const BLOCK = 4096
const MAX_IMAGE = 256 * MIB

/** Packs a raw image; called by the script that makes the fixtures. */
export function packFixture(image: Uint8Array): Uint8Array {
  const numbers: number[] = []
  for (let block = 0; block * BLOCK < image.length; block++)
    if (!isZero(image.subarray(block * BLOCK, (block + 1) * BLOCK))) numbers.push(block)
  const head = Buffer.alloc(20 + numbers.length * 4)
  head.write(MAGIC, 'latin1')
  writeU64(head, 8, image.length)
  head.writeUInt32LE(numbers.length, 16)
  for (const [index, number] of numbers.entries()) head.writeUInt32LE(number, 20 + index * 4)
  return gzipSync(Buffer.concat([head, ...numbers.map((number) => image.subarray(number * BLOCK, (number + 1) * BLOCK))]), { level: 9 })
}

/** Writes a fixture into a disk of `capacity` bytes or more; a GPT gets its backup at the disk's end. InvalidDisk when it does not fit. */
export function expandFixture(name: 'ext4' | 'ntfs', capacity: number, write: (offset: number, data: Uint8Array) => void): void {
  const file = join(fixtureDirectory(), `${name}.fixture.gz`)
  const bytes = gunzipSync(readFileSync(file), { maxOutputLength: MAX_IMAGE })
  const size = readU64(bytes, 8, 'image size')
  const count = bytes.readUInt32LE(16)
  if (bytes.toString('latin1', 0, 8) !== MAGIC || bytes.length !== 20 + count * (4 + BLOCK)) {
    throw new LabStorageError('InvalidDisk', `The fixture ${name} is damaged.`, file)
  }
  if (size > capacity) {
    throw new LabStorageError('InvalidDisk', `The fixture ${name} of ${size} bytes does not fit a disk of ${capacity} bytes.`, name)
  }
  for (let index = 0; index < count; index++) {
    const at = 20 + count * 4 + index * BLOCK
    write(bytes.readUInt32LE(20 + index * 4) * BLOCK, bytes.subarray(at, at + BLOCK))
  }
  const gpt = blockOf(bytes, count, 0)
  if (gpt !== undefined && gpt.toString('latin1', SECTOR, SECTOR + 8) === 'EFI PART') growGpt(bytes, count, size, capacity, write)
}

function blockOf(bytes: Buffer, count: number, number: number): Buffer | undefined {
  for (let index = 0; index < count; index++) {
    if (bytes.readUInt32LE(20 + index * 4) === number)
      return bytes.subarray(20 + count * (4 + BLOCK) - (count - index) * BLOCK).subarray(0, BLOCK)
  }
  return undefined
}

/** UEFI 5.3: primary header in sector 1, its entries from sector 2, backup entries and header in the last 33 sectors. */
function growGpt(bytes: Buffer, count: number, size: number, capacity: number, write: (offset: number, data: Uint8Array) => void): void {
  if (size === capacity) return
  const last = Math.floor(capacity / SECTOR) - 1
  const entries = Buffer.alloc(32 * SECTOR)
  for (let block = 0; block < 5; block++) {
    const from = block * BLOCK - 2 * SECTOR
    const data = blockOf(bytes, count, block) ?? Buffer.alloc(BLOCK)
    data.copy(entries, Math.max(0, from), Math.max(0, -from))
  }
  const header = Buffer.from(blockOf(bytes, count, 0)?.subarray(SECTOR, 2 * SECTOR) ?? Buffer.alloc(SECTOR))
  const seal = (own: number, other: number, table: number): Buffer => {
    const sealed = Buffer.from(header)
    writeU64(sealed, 24, own)
    writeU64(sealed, 32, other)
    writeU64(sealed, 48, last - 33)
    writeU64(sealed, 72, table)
    sealed.writeUInt32LE(0, 16)
    sealed.writeUInt32LE(crc32(sealed.subarray(0, sealed.readUInt32LE(12))), 16)
    return sealed
  }
  const oldBackup = size - 33 * SECTOR
  if (oldBackup + 33 * SECTOR <= capacity - 33 * SECTOR) write(oldBackup, new Uint8Array(33 * SECTOR))
  write(SECTOR, seal(1, last, 2))
  write((last - 32) * SECTOR, entries)
  write(last * SECTOR, seal(last, 1, last - 32))
  const mbr = Buffer.from(blockOf(bytes, count, 0)?.subarray(0, SECTOR) ?? Buffer.alloc(SECTOR))
  // The protective partition covers the whole disk.
  mbr.writeUInt32LE(Math.min(0xffffffff, last), 446 + 12)
  write(0, mbr)
}

/** test/golden/guest-disks of the package this file runs in, from source or from a build. */
function fixtureDirectory(): string {
  for (let directory = import.meta.dirname; ; directory = dirname(directory)) {
    if (existsSync(join(directory, 'package.json'))) return join(directory, 'test', 'golden', 'guest-disks')
    if (dirname(directory) === directory)
      throw new LabStorageError('FileNotFound', 'The guest disk fixtures were not found.', 'guest-disks')
  }
}
