import { closeSync, fstatSync, openSync, writeFileSync } from 'node:fs'
import { SECTOR } from '../../core/index.ts'
import { PageCache, readExactly, writeExactly } from './exact-io.ts'
import { type Link, type LinkOptions, mergedRuns, type Run } from './link.ts'
import { LabStorageError, translated } from './storage-error.ts'

/*
 * COWD ("vmfsSparse"), the redo log of VMFS5 and NFS below 2 TiB; layout in docs/formats/lab-redo-logs.md. Grain = 1 sector, tables of
 * 4096 u32 = 2 MiB, tables and grains appended in the order of first write.
 */
const MAGIC = 0x44574f43
const HEADER_BYTES = 2048
const DIRECTORY_SECTOR = 4
const ENTRIES = 4096
const TABLE_SECTORS = (ENTRIES * 4) / SECTOR
const TABLE_SPAN = ENTRIES * SECTOR
const HEADER_EVERY = 2048 // sectors allocated between two updates of the header's "next free sector"

/** Makes an empty `-delta.vmdk`. `capacity` below 2 TiB. */
export function createCowd(file: string, capacity: number, subject: string): void {
  const sectors = capacity / SECTOR
  const tables = Math.ceil(sectors / ENTRIES)
  const directorySectors = Math.ceil((tables * 4) / SECTOR)
  const bytes = Buffer.alloc((DIRECTORY_SECTOR + directorySectors) * SECTOR)
  bytes.writeUInt32LE(MAGIC, 0)
  bytes.writeUInt32LE(1, 4)
  bytes.writeUInt32LE(3, 8)
  bytes.writeUInt32LE(sectors, 12)
  bytes.writeUInt32LE(1, 16)
  bytes.writeUInt32LE(DIRECTORY_SECTOR, 20)
  bytes.writeUInt32LE(tables, 24)
  bytes.writeUInt32LE(DIRECTORY_SECTOR + directorySectors, 28)
  bytes.writeUInt32LE(1, 1060)
  bytes.writeUInt32LE(1, 1636)
  translated(subject, () => writeFileSync(file, bytes, { flag: 'wx' }))
}

export class CowdLink implements Link {
  readonly capacity: number
  readonly #fd: number
  readonly #charge: LinkOptions['charge']
  readonly #readonly: boolean
  readonly #directory: Uint32Array<ArrayBuffer>
  readonly #tables: PageCache
  #nextFree: number
  #headerFree: number

  constructor(file: string, options: LinkOptions) {
    this.#charge = options.charge
    this.#readonly = options.readonly
    this.#fd = translated(options.subject, () => openSync(file, options.readonly ? 'r' : 'r+'))
    const size = fstatSync(this.#fd).size
    const header = Buffer.alloc(HEADER_BYTES)
    readExactly(this.#fd, 0, header)
    const tables = header.readUInt32LE(24)
    const sectors = header.readUInt32LE(12)
    const valid = header.readUInt32LE(0) === MAGIC && header.readUInt32LE(4) === 1 && header.readUInt32LE(16) === 1
    if (!valid || header.readUInt32LE(20) !== DIRECTORY_SECTOR || tables !== Math.ceil(sectors / ENTRIES) || size < HEADER_BYTES) {
      closeSync(this.#fd)
      throw new LabStorageError('InvalidDisk', `${options.subject} is not a COWD redo log of one-sector grains.`, options.subject)
    }
    this.capacity = sectors * SECTOR
    this.#directory = new Uint32Array(tables)
    readExactly(this.#fd, DIRECTORY_SECTOR * SECTOR, new Uint8Array(this.#directory.buffer))
    this.#tables = new PageCache(this.#fd, ENTRIES * 4, 128)
    // After a kill the header may be behind; everything allocated lies before the end of the file.
    this.#headerFree = header.readUInt32LE(28)
    this.#nextFree = Math.max(this.#headerFree, Math.ceil(size / SECTOR))
  }

  runs(offset: number, length: number): Generator<Run> {
    return mergedRuns(this.#runs(offset, offset + length))
  }

  *#runs(start: number, end: number): Generator<Run> {
    let offset = start
    while (offset < end) {
      const index = Math.floor(offset / TABLE_SPAN)
      const tableEnd = Math.min(end, (index + 1) * TABLE_SPAN)
      const sector = this.#directory[index] ?? 0
      if (sector === 0) {
        yield { offset, length: tableEnd - offset, kind: 'absent', at: 0 }
        offset = tableEnd
        continue
      }
      const table = this.#tables.at(sector * SECTOR)
      while (offset < tableEnd) {
        const within = offset % SECTOR
        const first = Math.floor((offset - index * TABLE_SPAN) / SECTOR)
        const last = Math.ceil((tableEnd - index * TABLE_SPAN) / SECTOR)
        const entry = table[first] ?? 0
        let next = first + 1
        if (entry === 0) while (next < last && table[next] === 0) next++
        else while (next < last && table[next] === entry + (next - first)) next++
        const length = Math.min(tableEnd, index * TABLE_SPAN + next * SECTOR) - offset
        yield entry === 0 ? { offset, length, kind: 'absent', at: 0 } : { offset, length, kind: 'data', at: entry * SECTOR + within }
        offset += length
      }
    }
  }

  readAt(at: number, into: Uint8Array): void {
    readExactly(this.#fd, at, into)
  }

  /** Order: data, table entries, directory entry; a kill between them leaves unused space, never a wrong reading. */
  write(offset: number, data: Uint8Array): void {
    let done = 0
    while (done < data.length) {
      const index = Math.floor((offset + done) / TABLE_SPAN)
      const first = Math.floor((offset + done - index * TABLE_SPAN) / SECTOR)
      const count = Math.min(data.length - done, (index + 1) * TABLE_SPAN - offset - done) / SECTOR
      this.#writeInTable(index, first, data.subarray(done, done + count * SECTOR))
      done += count * SECTOR
    }
  }

  #writeInTable(index: number, first: number, data: Uint8Array): void {
    const count = data.length / SECTOR
    const known = this.#directory[index] ?? 0
    let table = known === 0 ? undefined : this.#tables.at(known * SECTOR)
    let wanted = 0
    for (let sector = first; sector < first + count; sector++) if ((table?.[sector] ?? 0) === 0) wanted++
    this.#charge((wanted + (table === undefined ? TABLE_SECTORS : 0)) * SECTOR)
    let tableSector = known
    let free = this.#nextFree
    if (table === undefined) {
      tableSector = free
      free += TABLE_SECTORS
    }
    if (free + wanted > 0xffffffff) throw new LabStorageError('NoDiskSpace', 'A COWD redo log cannot grow beyond 2 TiB.', 'redo log')
    const placed = new Uint32Array(count)
    let start = 0
    while (start < count) {
      const entry = table?.[first + start] ?? 0
      let end = start + 1
      if (entry === 0) while (end < count && (table?.[first + end] ?? 0) === 0) end++
      else while (end < count && table?.[first + end] === entry + (end - start)) end++
      const target = entry === 0 ? free : entry
      if (entry === 0) free += end - start
      for (let sector = start; sector < end; sector++) placed[sector] = target + (sector - start)
      writeExactly(this.#fd, target * SECTOR, data.subarray(start * SECTOR, end * SECTOR))
      start = end
    }
    this.#nextFree = free
    if (wanted === 0) return
    if (table === undefined) {
      table = this.#tables.fresh(tableSector * SECTOR)
      table.set(placed, first)
      this.#tables.store(tableSector * SECTOR, table, 0, ENTRIES)
      this.#directory[index] = tableSector
      const entry = Buffer.alloc(4)
      entry.writeUInt32LE(tableSector)
      writeExactly(this.#fd, DIRECTORY_SECTOR * SECTOR + index * 4, entry)
    } else {
      table.set(placed, first)
      this.#tables.store(tableSector * SECTOR, table, first, first + count)
    }
    if (this.#nextFree - this.#headerFree > HEADER_EVERY) this.flush()
  }

  flush(): void {
    if (this.#readonly || this.#headerFree === this.#nextFree) return
    const field = Buffer.alloc(4)
    field.writeUInt32LE(this.#nextFree)
    writeExactly(this.#fd, 28, field)
    this.#headerFree = this.#nextFree
  }

  close(): void {
    this.flush()
    closeSync(this.#fd)
  }
}
