import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'

/**
 * Small writers of the redo logs that only ESXi makes, for tests. They import nothing of the agent, so that reader and writer cannot
 * share a mistake; qemu-img judges both.
 *
 * A redo log is a map from grain number to what is in it: bytes, `zero` (hides the parent) or, seSparse only, `unmap` (held data once,
 * reads as zeros).
 */
export type Grains = ReadonlyMap<number, Uint8Array | 'zero' | 'unmap'>

export type DescriptorParts = {
  readonly createType: string
  readonly extents: readonly string[]
  readonly cid: string
  readonly parentCid?: string
  readonly hint?: string
  readonly extra?: readonly string[]
  readonly version?: number
}

export function writeDescriptor(path: string, parts: DescriptorParts): void {
  const lines = [
    '# Disk DescriptorFile',
    `version=${parts.version ?? 1}`,
    'encoding="UTF-8"',
    `CID=${parts.cid}`,
    `parentCID=${parts.parentCid ?? 'ffffffff'}`,
    'isNativeSnapshot="no"',
    `createType="${parts.createType}"`,
    ...(parts.hint === undefined ? [] : [`parentFileNameHint="${parts.hint}"`]),
    ...(parts.extra ?? []),
    '# Extent description',
    ...parts.extents,
    '',
    '# The Disk Data Base ',
    '#DDB',
    '',
    'ddb.adapterType = "lsilogic"',
    'ddb.virtualHWVersion = "14"',
  ]
  writeFileSync(path, `${lines.join('\n')}\n`)
}

const SECTOR = 512

class Output {
  readonly #fd: number
  #end = 0

  constructor(path: string) {
    this.#fd = openSync(path, 'w')
  }

  at(sector: number, bytes: Uint8Array): void {
    writeSync(this.#fd, bytes, 0, bytes.length, sector * SECTOR)
    this.#end = Math.max(this.#end, sector * SECTOR + bytes.length)
  }

  close(atLeast: number): void {
    ftruncateSync(this.#fd, Math.max(Math.ceil(this.#end / SECTOR) * SECTOR, atLeast))
    closeSync(this.#fd)
  }
}

const u32 = (values: readonly number[]): Uint8Array => {
  const bytes = Buffer.alloc(values.length * 4)
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, index * 4)
  return bytes
}
const u64 = (values: readonly bigint[]): Uint8Array => {
  const bytes = Buffer.alloc(values.length * 8)
  for (const [index, value] of values.entries()) bytes.writeBigUInt64LE(value, index * 8)
  return bytes
}
const fit = (bytes: Uint8Array, length: number): Uint8Array => {
  const whole = Buffer.alloc(length)
  whole.set(bytes.subarray(0, length))
  return whole
}

/** COWD: header 4 sectors, directory at sector 4, tables of 4096 entries and 512-byte grains appended in the order of first write. */
export function writeCowd(path: string, sectors: number, grains: Grains, patch: Readonly<Record<number, number>> = {}): void {
  const out = new Output(path)
  const directory = Array.from({ length: Math.ceil(sectors / 4096) }, () => 0)
  const tables = new Map<number, number[]>()
  let free = 4 + Math.ceil((directory.length * 4) / SECTOR)
  for (const [grain, value] of grains) {
    const index = Math.floor(grain / 4096)
    let table = tables.get(index)
    if (table === undefined) {
      table = Array.from({ length: 4096 }, () => 0)
      tables.set(index, table)
      directory[index] = free
      free += 32
    }
    if (typeof value === 'string') {
      table[grain % 4096] = 1
      continue
    }
    table[grain % 4096] = free
    out.at(free, fit(value, SECTOR))
    free += 1
  }
  for (const [index, table] of tables) out.at(directory[index] ?? 0, u32(table))
  out.at(4, u32(directory))
  const header = Buffer.alloc(4 * SECTOR)
  header.write('COWD', 'latin1')
  header.set(u32([1, 3, sectors, 1, 4, directory.length, free]), 4)
  header.writeUInt32LE(1, 1060)
  header.writeUInt32LE(1, 1636)
  for (const [offset, value] of Object.entries(patch)) header.writeUInt32LE(value, Number(offset))
  out.at(0, header)
  out.close(free * SECTOR)
}

/** A grain index as seSparse stores it: its low 12 bits in bits 48 to 59, the rest below. */
const rotated = (index: bigint): bigint => ((index & 0xfffn) << 48n) | (index >> 12n)

export type SeSparseOptions = {
  /** Physical grain of the first one written. */
  readonly firstIndex?: bigint
  /** Header fields to overwrite, by number. */
  readonly header?: Readonly<Record<number, bigint>>
  readonly replay?: bigint
}

/** seSparse 2.1: headers, journal, directory, tables, bitmap, back map, 4 KiB grains; every region on 1 MiB. */
export function writeSeSparse(path: string, sectors: number, grains: Grains, options: SeSparseOptions = {}): void {
  const MIB = 2048
  const aligned = (count: number): number => Math.ceil(count / MIB) * MIB
  const all = Math.ceil(sectors / 8)
  const tableCount = Math.ceil(all / 4096)
  const sizes = [MIB, aligned((tableCount * 8) / SECTOR), aligned(tableCount * 64), aligned(all / 8 / SECTOR), aligned((all * 8) / SECTOR)]
  const starts: number[] = []
  let next = MIB
  for (const size of sizes) {
    starts.push(next)
    next += size
  }
  const [, directoryAt = 0, tablesAt = 0] = starts
  const grainsAt = next
  const out = new Output(path)
  const directory = new Map<number, bigint>()
  const tables = new Map<number, bigint[]>()
  let physical = options.firstIndex ?? 0n
  for (const [grain, value] of grains) {
    const index = Math.floor(grain / 4096)
    let table = tables.get(index)
    if (table === undefined) {
      table = Array.from({ length: 4096 }, () => 0n)
      directory.set(index, (1n << 60n) | BigInt(tables.size))
      tables.set(index, table)
    }
    if (value === 'zero') {
      table[grain % 4096] = 2n << 60n
      continue
    }
    table[grain % 4096] = ((value === 'unmap' ? 1n : 3n) << 60n) | rotated(physical)
    out.at(grainsAt + Number(physical) * 8, value === 'unmap' ? Buffer.alloc(4096, 'stale') : fit(value, 4096))
    physical += 1n
  }
  let number = 0
  for (const table of tables.values()) out.at(tablesAt + number++ * 64, u64(table))
  for (const [index, entry] of directory) {
    const at = Buffer.alloc(8)
    at.writeBigUInt64LE(entry)
    out.at(directoryAt + (index * 8) / SECTOR, at)
  }
  const header: bigint[] = [0xcafebaben, 0x200000001n, BigInt(sectors), 8n, 64n, 0n, 0n, 0n, 0n, 0n, 1n, 1n, 2n, 2n]
  for (const [index, start] of starts.entries()) header.push(BigInt(start), BigInt(sizes[index] ?? 0))
  header.push(BigInt(grainsAt), BigInt(all * 8))
  for (const [index, value] of Object.entries(options.header ?? {})) header[Number(index)] = value
  out.at(0, fit(u64(header), SECTOR))
  out.at(1, fit(u64([0xcafecafen, BigInt(tables.size), 1n, options.replay ?? 0n]), SECTOR))
  out.at(2, fit(u64([0xdeafc0den, 1n, 1n]), 2 * SECTOR))
  out.close((grainsAt + 8) * SECTOR)
}

/** The image a redo log shows on top of `below`. */
export function applyGrains(below: Uint8Array, size: number, grainBytes: number, grains: Grains): Uint8Array {
  const image = fit(below, size)
  for (const [grain, value] of grains) {
    const end = Math.min((grain + 1) * grainBytes, size)
    image.fill(0, grain * grainBytes, end)
    if (typeof value !== 'string') image.set(value.subarray(0, end - grain * grainBytes), grain * grainBytes)
  }
  return image
}

/** A flat base as ESXi keeps it. */
export function writeFlatBase(path: string, image: Uint8Array, cid: string): void {
  const flat = path.replace(/\.vmdk$/u, '-flat.vmdk')
  writeFileSync(flat, image)
  const name = flat.slice(dirname(flat).length + 1)
  writeDescriptor(path, { createType: 'vmfs', extents: [`RW ${image.length / SECTOR} VMFS "${name}"`], cid })
}

/** Writes one link of a chain below `directory`; returns its path. */
export function writeRedoLog(
  directory: string,
  name: string,
  kind: 'cowd' | 'sesparse',
  size: number,
  grains: Grains,
  parent: { readonly hint: string; readonly cid: string },
  cid: string,
): string {
  const sectors = size / SECTOR
  const data = `${name}-${kind === 'cowd' ? 'delta' : 'sesparse'}.vmdk`
  if (kind === 'cowd') writeCowd(join(directory, data), sectors, grains)
  else writeSeSparse(join(directory, data), sectors, grains)
  writeDescriptor(join(directory, `${name}.vmdk`), {
    createType: kind === 'cowd' ? 'vmfsSparse' : 'seSparse',
    extents: [`RW ${sectors} ${kind === 'cowd' ? 'VMFSSPARSE' : 'SESPARSE'} "${data}"`],
    cid,
    parentCid: parent.cid,
    hint: parent.hint,
  })
  return join(directory, `${name}.vmdk`)
}
