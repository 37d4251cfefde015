import { closeSync, fstatSync, ftruncateSync, openSync, writeFileSync } from 'node:fs'
import { MIB, readU64, SECTOR, writeU64 } from '../../core/index.ts'
import { PageCache, readExactly, writeExactly } from './exact-io.ts'
import { type Below, type Link, type LinkOptions, mergedRuns, type Run } from './link.ts'
import { SE_FREE, SE_SET, SE_UNMAPPED, SE_ZERO, seEntry, seGrain, seType } from './se-entry.ts'
import { LabStorageError, translated } from './storage-error.ts'

/*
 * SE-sparse 2.1, the redo log of VMFS6 and of disks from 2 TiB on; layout in docs/formats/lab-redo-logs.md. Grain 4 KiB, tables of 4096
 * u64 = 16 MiB, each region on 1 MiB. The journal stays empty: a kill needs no replay, because of the order of writes.
 */
const CONST_MAGIC = 0xcafebabe
const VOLATILE_MAGIC = 0xcafecafe
const VERSION_HIGH = 2
const VERSION_LOW = 1
const GRAIN = 4096
const ENTRIES = 4096
const TABLE_BYTES = ENTRIES * 8
const TABLE_SPAN = ENTRIES * GRAIN
const PAGE = 4096

type Layout = {
  readonly tables: number
  readonly grains: number
  readonly directoryAt: number
  readonly tablesAt: number
  readonly bitmapAt: number
  readonly backMapAt: number
  readonly grainsAt: number
  readonly header: Buffer
}

function layoutOf(capacity: number): Layout {
  const grains = Math.ceil(capacity / GRAIN)
  const tables = Math.ceil(grains / ENTRIES)
  const header = Buffer.alloc(SECTOR)
  const fields = [CONST_MAGIC, VERSION_HIGH * 2 ** 32 + VERSION_LOW, capacity / SECTOR, GRAIN / SECTOR, TABLE_BYTES / SECTOR, 0, 0, 0, 0, 0]
  fields.push(1, 1, 2, 2)
  let at = MIB
  const starts: number[] = []
  for (const bytes of [MIB, tables * 8, tables * TABLE_BYTES, Math.ceil(grains / 8), grains * 8]) {
    const rounded = Math.ceil(bytes / MIB) * MIB
    fields.push(at / SECTOR, rounded / SECTOR)
    starts.push(at)
    at += rounded
  }
  fields.push(at / SECTOR, (grains * GRAIN) / SECTOR)
  for (const [index, value] of fields.entries()) writeU64(header, index * 8, value)
  const [, directoryAt = 0, tablesAt = 0, bitmapAt = 0, backMapAt = 0] = starts
  return { tables, grains, directoryAt, tablesAt, bitmapAt, backMapAt, grainsAt: at, header }
}

/** Makes an empty `-sesparse.vmdk`: headers written, regions as holes. */
export function createSeSparse(file: string, capacity: number, subject: string): void {
  const layout = layoutOf(capacity)
  const head = Buffer.alloc(4 * SECTOR)
  layout.header.copy(head)
  writeU64(head, SECTOR, VOLATILE_MAGIC)
  writeU64(head, SECTOR + 16, 1)
  writeU64(head, 2 * SECTOR, 0xdeafc0de)
  writeU64(head, 2 * SECTOR + 8, 1)
  writeU64(head, 2 * SECTOR + 16, 1)
  translated(subject, () => {
    writeFileSync(file, head, { flag: 'wx' })
    const fd = openSync(file, 'r+')
    ftruncateSync(fd, layout.grainsAt)
    closeSync(fd)
  })
}

export class SeSparseLink implements Link {
  readonly capacity: number
  readonly #fd: number
  readonly #charge: LinkOptions['charge']
  readonly #readonly: boolean
  readonly #layout: Layout
  readonly #directory: PageCache
  readonly #tables: PageCache
  readonly #bitmap: PageCache
  #nextTable = 0
  #nextGrain = 0
  #transaction = 1

  constructor(file: string, options: LinkOptions) {
    this.#charge = options.charge
    this.#readonly = options.readonly
    this.#fd = translated(options.subject, () => openSync(file, options.readonly ? 'r' : 'r+'))
    const head = Buffer.alloc(2 * SECTOR)
    readExactly(this.#fd, 0, head)
    const size = fstatSync(this.#fd).size
    const capacity = readU64(head, 0, 'magic') === CONST_MAGIC ? readU64(head, 16, 'capacity') * SECTOR : 0
    this.#layout = layoutOf(capacity)
    const valid = capacity > 0 && Buffer.compare(head.subarray(0, SECTOR), this.#layout.header) === 0 && size >= this.#layout.grainsAt
    if (!valid || readU64(head, SECTOR, 'volatile magic') !== VOLATILE_MAGIC || readU64(head, SECTOR + 24, 'replay') !== 0) {
      closeSync(this.#fd)
      throw new LabStorageError('InvalidDisk', `${options.subject} is not a clean SE-sparse 2.1 redo log.`, options.subject)
    }
    this.capacity = capacity
    this.#transaction = readU64(head, SECTOR + 16, 'transaction')
    this.#directory = new PageCache(this.#fd, PAGE, 256)
    this.#tables = new PageCache(this.#fd, TABLE_BYTES, 128)
    this.#bitmap = new PageCache(this.#fd, PAGE, 64)
    if (!options.readonly) this.#findNext(size)
  }

  /** The directory and the tables are the truth; what a kill left allocated but unreferenced is the last of the file and is used again. */
  #findNext(size: number): void {
    for (let index = 0; index < this.#layout.tables; index++) {
      const number = this.#tableNumber(index)
      if (number !== undefined && number >= this.#nextTable) this.#nextTable = number + 1
    }
    this.#nextGrain = Math.ceil((size - this.#layout.grainsAt) / GRAIN)
    const back = new Uint32Array(2)
    while (this.#nextGrain > 0) {
      const grain = this.#nextGrain - 1
      readExactly(this.#fd, this.#layout.backMapAt + grain * 8, new Uint8Array(back.buffer))
      const [low = 0, high = 0] = back
      if (this.#inUse(grain) && seType(high) === SE_UNMAPPED && this.#points(seGrain(low, high), grain)) break
      this.#nextGrain = grain
    }
  }

  #points(logical: number, grain: number): boolean {
    const table = this.#table(Math.floor(logical / ENTRIES))
    const [low = 0, high = 0] = table === undefined ? [] : [table[(logical % ENTRIES) * 2], table[(logical % ENTRIES) * 2 + 1]]
    return (seType(high) === SE_SET || seType(high) === SE_UNMAPPED) && seGrain(low, high) === grain
  }

  #inUse(grain: number): boolean {
    const { position, word, bit } = this.#bitmapPlace(grain)
    return (((this.#bitmap.at(position)[word] ?? 0) >>> bit) & 1) === 1
  }

  #bitmapPlace(grain: number): { position: number; word: number; bit: number } {
    const page = Math.floor(grain / (PAGE * 8))
    const within = grain % (PAGE * 8)
    return { position: this.#layout.bitmapAt + page * PAGE, word: within >>> 5, bit: within & 31 }
  }

  #tableNumber(index: number): number | undefined {
    const byte = index * 8
    const page = this.#directory.at(this.#layout.directoryAt + Math.floor(byte / PAGE) * PAGE)
    const word = (byte % PAGE) / 4
    return page[word + 1] === 0 ? undefined : page[word]
  }

  #table(index: number): Uint32Array<ArrayBuffer> | undefined {
    const number = this.#tableNumber(index)
    return number === undefined ? undefined : this.#tables.at(this.#layout.tablesAt + number * TABLE_BYTES)
  }

  runs(offset: number, length: number): Generator<Run> {
    return mergedRuns(this.#runs(offset, offset + length))
  }

  *#runs(start: number, end: number): Generator<Run> {
    let offset = start
    while (offset < end) {
      const index = Math.floor(offset / TABLE_SPAN)
      const tableEnd = Math.min(end, (index + 1) * TABLE_SPAN)
      const table = this.#table(index)
      if (table === undefined) {
        yield { offset, length: tableEnd - offset, kind: 'absent', at: 0 }
        offset = tableEnd
        continue
      }
      while (offset < tableEnd) {
        const slot = Math.floor((offset - index * TABLE_SPAN) / GRAIN)
        const length = Math.min(tableEnd, index * TABLE_SPAN + (slot + 1) * GRAIN) - offset
        const low = table[slot * 2] ?? 0
        const high = table[slot * 2 + 1] ?? 0
        const type = seType(high)
        if (type === SE_SET) yield { offset, length, kind: 'data', at: this.#grainAt(seGrain(low, high)) + (offset % GRAIN) }
        else yield { offset, length, kind: type === SE_FREE ? 'absent' : 'zero', at: 0 }
        offset += length
      }
    }
  }

  #grainAt(grain: number): number {
    return this.#layout.grainsAt + grain * GRAIN
  }

  readAt(at: number, into: Uint8Array): void {
    readExactly(this.#fd, at, into)
  }

  write(offset: number, data: Uint8Array, below: Below): void {
    const end = offset + data.length
    let position = offset
    while (position < end) {
      const tableEnd = (Math.floor(position / TABLE_SPAN) + 1) * TABLE_SPAN
      const stop = Math.min(end, tableEnd)
      this.#writeInTable(position, data.subarray(position - offset, stop - offset), below)
      position = stop
    }
  }

  /** Order: grains, back map, bitmap, table entries, directory entry, volatile header. */
  #writeInTable(offset: number, data: Uint8Array, below: Below): void {
    const index = Math.floor(offset / TABLE_SPAN)
    const base = index * TABLE_SPAN
    const first = Math.floor((offset - base) / GRAIN)
    const last = Math.ceil((offset + data.length - base) / GRAIN)
    const table = this.#table(index)
    const typeOf = (slot: number): number => (table === undefined ? SE_FREE : seType(table[slot * 2 + 1] ?? 0))
    let wanted = 0
    for (let slot = first; slot < last; slot++) if (typeOf(slot) === SE_FREE || typeOf(slot) === SE_ZERO) wanted++
    this.#charge(wanted * GRAIN + (table === undefined ? TABLE_BYTES : 0))
    const entries = new Uint32Array((last - first) * 2)
    if (table !== undefined) entries.set(table.subarray(first * 2, last * 2))
    let slot = first
    let changed = false
    let grain = this.#nextGrain
    while (slot < last) {
      const type = typeOf(slot)
      let next = slot + 1
      let at: number
      if (type === SE_FREE || type === SE_ZERO) {
        while (next < last && (typeOf(next) === SE_FREE || typeOf(next) === SE_ZERO)) next++
        at = grain
        grain += next - slot
        this.#own(base / GRAIN + slot, at, next - slot, () =>
          this.#writeGrains(at, this.#whole(base + slot * GRAIN, base + next * GRAIN, offset, data, typeOf, base, below)),
        )
      } else {
        at = seGrain(table?.[slot * 2] ?? 0, table?.[slot * 2 + 1] ?? 0)
        const follows = (other: number): boolean =>
          typeOf(other) === type && seGrain(table?.[other * 2] ?? 0, table?.[other * 2 + 1] ?? 0) === at + (other - slot)
        while (next < last && follows(next)) next++
        if (type === SE_UNMAPPED) {
          this.#writeGrains(at, this.#whole(base + slot * GRAIN, base + next * GRAIN, offset, data, typeOf, base, below))
        } else {
          const from = Math.max(offset, base + slot * GRAIN)
          const to = Math.min(offset + data.length, base + next * GRAIN)
          writeExactly(this.#fd, this.#grainAt(at) + (from - base - slot * GRAIN), data.subarray(from - offset, to - offset))
        }
      }
      if (type !== SE_SET) {
        changed = true
        for (let one = slot; one < next; one++) seEntry(entries, one - first, SE_SET, at + (one - slot))
      }
      slot = next
    }
    this.#nextGrain = grain
    if (changed) this.#setEntries(index, first, entries)
  }

  /** The bytes of whole grains from `start` to `end`: the new data, and round it what was there before. */
  #whole(
    start: number,
    end: number,
    offset: number,
    data: Uint8Array,
    typeOf: (slot: number) => number,
    base: number,
    below: Below,
  ): Uint8Array {
    const to = offset + data.length
    if (start >= offset && end <= to) return data.subarray(start - offset, end - offset)
    const whole = new Uint8Array(end - start)
    const edge = (from: number, until: number): void => {
      if (from >= until || typeOf(Math.floor((from - base) / GRAIN)) !== SE_FREE) return
      below(from, whole.subarray(from - start, until - start))
    }
    if (start < offset) edge(start, Math.min(offset, end))
    if (end > to) edge(Math.max(to, start), Math.min(end, this.capacity))
    const from = Math.max(start, offset)
    whole.set(data.subarray(from - offset, Math.min(end, to) - offset), from - start)
    return whole
  }

  #writeGrains(grain: number, bytes: Uint8Array): void {
    writeExactly(this.#fd, this.#grainAt(grain), bytes)
  }

  /** New grains: data first, then the back map (tag 1 + logical grain), then their bits in the bitmap. */
  #own(logical: number, grain: number, count: number, writeData: () => void): void {
    if (grain + count > this.#layout.grains) {
      throw new LabStorageError('InvalidDisk', 'The SE-sparse redo log has no free grain left, which cannot be.', 'redo log')
    }
    writeData()
    const back = new Uint32Array(count * 2)
    for (let one = 0; one < count; one++) seEntry(back, one, SE_UNMAPPED, logical + one)
    writeExactly(this.#fd, this.#layout.backMapAt + grain * 8, new Uint8Array(back.buffer))
    let one = grain
    while (one < grain + count) {
      const { position, word } = this.#bitmapPlace(one)
      const page = this.#bitmap.at(position)
      let last = word
      const pageEnd = Math.min(grain + count, (Math.floor(one / (PAGE * 8)) + 1) * PAGE * 8)
      for (; one < pageEnd; one++) {
        const place = this.#bitmapPlace(one)
        page[place.word] = (page[place.word] ?? 0) | (1 << place.bit)
        last = place.word
      }
      this.#bitmap.store(position, page, word, last + 1)
    }
  }

  #setEntries(index: number, first: number, entries: Uint32Array<ArrayBuffer>): void {
    const known = this.#tableNumber(index)
    const number = known ?? this.#nextTable
    const at = this.#layout.tablesAt + number * TABLE_BYTES
    const table = known === undefined ? this.#tables.fresh(at) : this.#tables.at(at)
    table.set(entries, first * 2)
    if (known === undefined) {
      // Whole, since a kill may have left entries of a table that never got into the directory.
      this.#tables.store(at, table, 0, ENTRIES * 2)
      const byte = index * 8
      const position = this.#layout.directoryAt + Math.floor(byte / PAGE) * PAGE
      const page = this.#directory.at(position)
      const word = (byte % PAGE) / 4
      page[word] = number
      page[word + 1] = 0x10000000
      this.#directory.store(position, page, word, word + 2)
      this.#nextTable = number + 1
      this.#transaction++
      this.flush()
    } else {
      this.#tables.store(at, table, first * 2, first * 2 + entries.length)
    }
  }

  /** SCSI UNMAP of the whole grains inside: an allocated one stays remembered (type 1), any other becomes a zero grain (type 2). */
  zero(offset: number, length: number): { offset: number; length: number } {
    const start = Math.ceil(offset / GRAIN) * GRAIN
    const limit = offset + length
    const end = limit >= this.capacity ? Math.ceil(this.capacity / GRAIN) * GRAIN : Math.floor(limit / GRAIN) * GRAIN
    for (let position = start; position < end; ) {
      const index = Math.floor(position / TABLE_SPAN)
      const stop = Math.min(end, (index + 1) * TABLE_SPAN)
      const first = (position - index * TABLE_SPAN) / GRAIN
      const count = (stop - position) / GRAIN
      const table = this.#table(index)
      if (table === undefined) this.#charge(TABLE_BYTES)
      const entries = new Uint32Array(count * 2)
      for (let one = 0; one < count; one++) {
        const low = table?.[(first + one) * 2] ?? 0
        const high = table?.[(first + one) * 2 + 1] ?? 0
        if (seType(high) === SE_SET || seType(high) === SE_UNMAPPED) seEntry(entries, one, SE_UNMAPPED, seGrain(low, high))
        else seEntry(entries, one, SE_ZERO, 0)
      }
      this.#setEntries(index, first, entries)
      position = stop
    }
    return end > start ? { offset: start, length: Math.min(end, this.capacity) - start } : { offset, length: 0 }
  }

  flush(): void {
    if (this.#readonly) return
    const fields = Buffer.alloc(16)
    writeU64(fields, 0, this.#nextTable)
    writeU64(fields, 8, this.#transaction)
    writeExactly(this.#fd, SECTOR + 8, fields)
  }

  close(): void {
    this.flush()
    closeSync(this.#fd)
  }
}
