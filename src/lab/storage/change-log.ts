import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync } from 'node:fs'
import { KIB, readU64, SECTOR, writeU64 } from '../../core/index.ts'
import { type Datastore, replaceFile } from './datastore.ts'
import { type Random, spacedUuid } from './disk-uuid.ts'
import { writeExactly } from './exact-io.ts'
import { translated } from './storage-error.ts'

/*
 * `x-ctk.vmdk` in the lab's own layout (VMware's is not public; nobody but the lab reads it). One sector of header {8 bytes "VCBLABCT",
 * u32 version 1, u32 block size, u64 capacity, 16 bytes uuid}, then records of 16 bytes {u32 kind, u32 epoch, u32 first block, u32 count}
 * in the order things happened. A record is written before the data it announces, so that a kill never loses a change.
 */
const MAGIC = 'VCBLABCT'
const KIND_TOUCHED = 1
const KIND_EPOCH = 2
const KIND_FLOOR = 3
const RECORD = 16
/** Bytes of one tracked block. */
export const TRACKED_BLOCK = 64 * KIB
/** Epochs kept apart; older ones are told as one, which names too much, never too little. */
const MAX_EPOCHS = 256
const CHUNK_BLOCKS = 1024
const MIN_COMPACTION = 64 * KIB

/** Blocks touched in one epoch: bitmaps of the touched stretches only, so memory follows what was written, not the capacity. */
class BlockSet {
  readonly #chunks = new Map<number, Uint32Array>()

  has(block: number): boolean {
    const chunk = this.#chunks.get(Math.floor(block / CHUNK_BLOCKS))
    const bit = block % CHUNK_BLOCKS
    return chunk !== undefined && (((chunk[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 1
  }

  add(first: number, count: number): void {
    for (let block = first; block < first + count; block++) {
      const key = Math.floor(block / CHUNK_BLOCKS)
      let chunk = this.#chunks.get(key)
      if (chunk === undefined) {
        chunk = new Uint32Array(CHUNK_BLOCKS / 32)
        this.#chunks.set(key, chunk)
      }
      const bit = block % CHUNK_BLOCKS
      chunk[bit >>> 5] = (chunk[bit >>> 5] ?? 0) | (1 << (bit & 31))
    }
  }

  addAll(other: BlockSet): void {
    for (const [first, count] of other.runs()) this.add(first, count)
  }

  /** Runs of blocks in order. */
  *runs(): Generator<readonly [first: number, count: number]> {
    let start = -1
    let end = -1
    for (const key of [...this.#chunks.keys()].toSorted((a, b) => a - b)) {
      for (let bit = 0; bit < CHUNK_BLOCKS; bit++) {
        const block = key * CHUNK_BLOCKS + bit
        if (!this.has(block)) continue
        if (block === end) {
          end++
          continue
        }
        if (start >= 0) yield [start, end - start]
        start = block
        end = block + 1
      }
    }
    if (start >= 0) yield [start, end - start]
  }
}

export class ChangeLog {
  readonly path: string
  readonly #datastore: Datastore
  readonly #capacity: number
  readonly #random: Random
  #uuid: Uint8Array
  #epochs = new Map<number, BlockSet>()
  #current = 1
  /** Until this epoch the changes are told as one. */
  #floor = 0
  #fd = -1
  #bytes = 0
  #compacted = 0
  #damaged = false

  private constructor(datastore: Datastore, path: string, capacity: number, random: Random) {
    this.#datastore = datastore
    this.path = path
    this.#capacity = capacity
    this.#random = random
    this.#uuid = new Uint8Array(16)
  }

  /** Opens or makes the file. One of another capacity, or none where there should be one, starts anew; a damaged one says so when asked. */
  static open(datastore: Datastore, path: string, capacity: number, random: Random): ChangeLog {
    const log = new ChangeLog(datastore, path, capacity, random)
    log.#load()
    return log
  }

  /** `52 de … 65 63/81`. */
  get changeId(): string {
    return `${spacedUuid(this.#uuid)}/${this.#current}`
  }

  /** The file could not be understood: no question can be answered until `reset`. */
  get damaged(): boolean {
    return this.#damaged
  }

  get current(): number {
    return this.#current
  }

  get floor(): number {
    return this.#floor
  }

  /** Epoch of a changeId of this life of the disk; undefined for any other. */
  epochOf(changeId: string): number | undefined {
    const found = /^(.*)\/(\d{1,9})$/.exec(changeId.trim())
    const [, uuid = '', epoch = ''] = found ?? []
    const same = uuid.replace(/[\s-]/g, '').toLowerCase() === Buffer.from(this.#uuid).toString('hex')
    return same && Number(epoch) <= this.#current ? Number(epoch) : undefined
  }

  /** Called before each guest write. Cheap for what was touched in this epoch already. */
  mark(offset: number, length: number): void {
    const set = this.#set()
    const end = Math.ceil((offset + length) / TRACKED_BLOCK)
    let block = Math.floor(offset / TRACKED_BLOCK)
    while (block < end) {
      if (set.has(block)) {
        block++
        continue
      }
      let next = block + 1
      while (next < end && !set.has(next)) next++
      this.#append(KIND_TOUCHED, this.#current, block, next - block)
      set.add(block, next - block)
      block = next
    }
  }

  /** At a snapshot: later writes belong to the next epoch. */
  nextEpoch(): void {
    this.#current++
    this.#append(KIND_EPOCH, this.#current, 0, 0)
    this.#forget()
    if (this.#bytes > MIN_COMPACTION && this.#bytes > this.#compacted * 2) this.#rewrite()
  }

  /** A new life: new uuid, first epoch, nothing known. */
  reset(): void {
    this.#uuid = Uint8Array.from(this.#random(16))
    this.#epochs = new Map()
    this.#current = 1
    this.#floor = 0
    this.#damaged = false
    this.#rewrite()
  }

  /** Runs of blocks touched in epochs after `from` up to and with `until`. */
  runs(from: number, until: number): Generator<readonly [first: number, count: number]> {
    const union = new BlockSet()
    for (const [epoch, set] of this.#epochs) if (epoch > from && epoch <= until) union.addAll(set)
    return union.runs()
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd)
    this.#fd = -1
  }

  #set(): BlockSet {
    let set = this.#epochs.get(this.#current)
    if (set === undefined) {
      set = new BlockSet()
      this.#epochs.set(this.#current, set)
    }
    return set
  }

  #forget(): void {
    while (this.#epochs.size > MAX_EPOCHS) {
      const [oldest, next] = [...this.#epochs.keys()].toSorted((a, b) => a - b)
      const from = oldest === undefined ? undefined : this.#epochs.get(oldest)
      const into = next === undefined ? undefined : this.#epochs.get(next)
      if (oldest === undefined || next === undefined || from === undefined || into === undefined) return
      into.addAll(from)
      this.#epochs.delete(oldest)
      this.#floor = next
    }
  }

  #append(kind: number, epoch: number, first: number, count: number): void {
    this.#datastore.charge(RECORD)
    writeExactly(this.#fd, this.#bytes, record(kind, epoch, first, count))
    this.#bytes += RECORD
  }

  /** Everything known, told shortly, in place of the file. */
  #rewrite(): void {
    const parts = [this.#header()]
    if (this.#floor > 0) parts.push(record(KIND_FLOOR, this.#floor, 0, 0))
    for (const [epoch, set] of [...this.#epochs].toSorted(([a], [b]) => a - b)) {
      parts.push(record(KIND_EPOCH, epoch, 0, 0))
      for (const [first, count] of set.runs()) parts.push(record(KIND_TOUCHED, epoch, first, count))
    }
    parts.push(record(KIND_EPOCH, this.#current, 0, 0))
    const whole = Buffer.concat(parts)
    this.#datastore.charge(whole.length)
    const file = this.#datastore.path(this.path)
    replaceFile(file, whole, this.#datastore.datastorePath(this.path))
    this.close()
    this.#fd = openSync(file, 'r+')
    this.#bytes = whole.length
    this.#compacted = whole.length
  }

  #header(): Buffer {
    const header = Buffer.alloc(SECTOR)
    header.write(MAGIC, 'latin1')
    header.writeUInt32LE(1, 8)
    header.writeUInt32LE(TRACKED_BLOCK, 12)
    writeU64(header, 16, this.#capacity)
    header.set(this.#uuid, 24)
    return header
  }

  #load(): void {
    const file = this.#datastore.path(this.path)
    let bytes: Buffer
    try {
      bytes = readFileSync(file)
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'ENOENT') throw error
      this.reset()
      return
    }
    const known = bytes.length >= SECTOR && bytes.toString('latin1', 0, 8) === MAGIC && bytes.readUInt32LE(8) === 1
    if (known && readU64(bytes, 16, 'capacity') !== this.#capacity) {
      this.reset()
      return
    }
    this.#damaged = !known || !this.#replay(bytes)
    this.#uuid = known ? Uint8Array.from(bytes.subarray(24, 40)) : Uint8Array.from(this.#random(16))
    this.#fd = translated(this.path, () => openSync(file, 'r+'))
    // A kill can leave a part of the last record; what it announced was not written.
    this.#bytes = Math.max(SECTOR, SECTOR + Math.floor((fstatSync(this.#fd).size - SECTOR) / RECORD) * RECORD)
    ftruncateSync(this.#fd, this.#bytes)
    this.#compacted = this.#bytes
  }

  #replay(bytes: Buffer): boolean {
    const blocks = Math.ceil(this.#capacity / TRACKED_BLOCK)
    for (let at = SECTOR; at + RECORD <= bytes.length; at += RECORD) {
      const epoch = bytes.readUInt32LE(at + 4)
      const first = bytes.readUInt32LE(at + 8)
      const count = bytes.readUInt32LE(at + 12)
      switch (bytes.readUInt32LE(at)) {
        case KIND_EPOCH:
          if (epoch < this.#current) return false
          this.#current = epoch
          break
        case KIND_FLOOR:
          this.#floor = epoch
          break
        case KIND_TOUCHED:
          if (epoch !== this.#current || count === 0 || first + count > blocks) return false
          this.#set().add(first, count)
          break
        default:
          return false
      }
    }
    return true
  }
}

function record(kind: number, epoch: number, first: number, count: number): Buffer {
  const bytes = Buffer.alloc(RECORD)
  bytes.writeUInt32LE(kind, 0)
  bytes.writeUInt32LE(epoch, 4)
  bytes.writeUInt32LE(first, 8)
  bytes.writeUInt32LE(count, 12)
  return bytes
}
