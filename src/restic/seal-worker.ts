import { randomFillSync } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { digestsOneByOne, digestsSideBySide, MOST_AT_ONCE } from './block-digests.ts'
import { ciphersFor } from './ciphers.ts'
import {
  type BlockEntry,
  DIGEST,
  HASH,
  MOST_BLOCKS,
  OPEN,
  type OpenInto,
  type ReplyMessage,
  SEAL,
  type SealWorkerData,
  SlotMemory,
  STORE,
  type TaskMessage,
  type ThreadMessage,
} from './seal-tasks.ts'
import { IV_BYTES, SEAL_OVERHEAD, sealEach, type SealKey, tryUnsealEach } from './sealing.ts'
import { writePages } from './write-pages.ts'
import { WriteTurns } from './write-turns.ts'
import { type ZstdCodec, zstdCodec } from './zstd-codec.ts'

/** One of `SealThreads`: hashes, seals and opens blocks and digests packs, all in shared memory. One reply a task; dies with its like. */
const { codec: choice, turns: turnsOfAll } = workerData as SealWorkerData
const port = parentPort
if (port === null) throw new TypeError('seal-worker runs only as a worker thread')
/** By level: which one is asked for changes from block to block. */
const codecs = new Map<number, ZstdCodec>()
const opener = zstdCodec(1, choice)
const ciphers = ciphersFor(choice)
const digests = (choice === 'zlib' ? undefined : digestsSideBySide()) ?? digestsOneByOne
const NO_ID = new Uint8Array()
type Memory = { readonly slots: readonly SlotMemory[]; readonly packs: readonly SharedArrayBuffer[] }
const memories = new Map<number, Memory>()
/** Of the blocks that one task seals. */
const ivs = Buffer.alloc(MOST_BLOCKS * IV_BYTES)
let key: SealKey | undefined
/** Memory that blocks are decompressed into: the second is for those that come while the first ones wait to be written. */
const scratches = [Buffer.alloc(0), Buffer.alloc(0)]
const turns = new WriteTurns(turnsOfAll)
/** Opened, and not written yet; of one task, a list for each group. */
const unwritten: (readonly OpenedBlock[])[] = []

port.on('message', (message: TaskMessage | ThreadMessage) => {
  if (!('key' in message || 'attach' in message || 'detach' in message)) port.postMessage(answer(message))
  else if ('key' in message) key = message.key
  else if ('detach' in message) memories.delete(message.detach)
  else {
    const { attach, slots, packs, blockSize } = message
    memories.set(attach, { slots: slots.map((slot) => new SlotMemory(slot, blockSize)), packs })
  }
})

function answer(message: TaskMessage): ReplyMessage {
  try {
    return work(message)
  } catch (error) {
    // A full disk is not the end of a thread. Anything else is.
    const [task, , kind] = message
    if (kind !== OPEN || !(error instanceof Error && 'syscall' in error && 'code' in error)) throw error
    return [task, { code: String(error.code), message: error.message }]
  }
}

function work(message: TaskMessage): ReplyMessage {
  const [task, memory] = message
  const { slots, packs } = memories.get(memory) ?? { slots: [], packs: [] }
  if (message[2] === DIGEST) return [task, digests(message[3].map(({ buffer, length }) => packBytes(packs[buffer], length)))]
  const [, , kind, target, count, level, into] = message
  const slot = slots[target]
  if (slot === undefined) throw new RangeError(`slot ${target}`)
  const wanted = [...wantedBlocks(slot, count)]
  if (kind === SEAL || kind === STORE) randomFillSync(ivs, 0, wanted.length * IV_BYTES)
  let sealedAt = 0
  for (let at = 0; at < wanted.length; at += MOST_AT_ONCE) {
    const blocks = wanted.slice(at, at + MOST_AT_ONCE)
    if (kind === OPEN) openBlocks(slot, blocks, into, at + MOST_AT_ONCE >= wanted.length)
    if (kind === HASH || kind === STORE)
      for (const [index, id] of digests(blocks.map(({ plain }) => plain)).entries()) slot.answerId(blocks[index]?.block ?? 0, id)
    if (kind === SEAL || kind === STORE)
      sealedAt = sealBlocks(slot, blocks, sealedAt, level, ivs.subarray(at * IV_BYTES, (at + blocks.length) * IV_BYTES))
  }
  return [task, true]
}

function packBytes(pack: SharedArrayBuffer | undefined, length: number): Buffer {
  if (pack === undefined) throw new RangeError('there is no such pack buffer')
  return Buffer.from(pack, 0, length)
}

type WantedBlock = { readonly block: number; readonly entry: BlockEntry; readonly plain: Buffer }

function* wantedBlocks(slot: SlotMemory, count: number): Generator<WantedBlock> {
  let at = 0
  for (let block = 0; block < count; block++) {
    const entry = slot.entry(block)
    if (entry.wanted) yield { block, entry, plain: slot.plain.subarray(at, at + entry.length) }
    at += entry.length
  }
}

function keyToUse(): SealKey {
  if (key === undefined) throw new TypeError('a block was to be sealed or opened before the key was known')
  return key
}

function codecOf(level: number): ZstdCodec {
  const known = codecs.get(level) ?? zstdCodec(level, choice)
  codecs.set(level, known)
  return known
}

/** Compresses and seals blocks, one after the other from `at` on in the slot's room; where the last one ends. */
function sealBlocks(slot: SlotMemory, blocks: readonly WantedBlock[], at: number, level: number, itsIvs: Uint8Array): number {
  const codec = level === 0 ? undefined : codecOf(level)
  let end = at
  const parts = blocks.map(({ block, plain }) => {
    const region = slot.sealed.subarray(end)
    const compressed = codec?.compress(plain, region.subarray(IV_BYTES, region.length - IV_BYTES))
    if (compressed === undefined) region.set(plain, IV_BYTES)
    const length = compressed ?? plain.length
    slot.answerSealed(block, end, length + SEAL_OVERHEAD, compressed === undefined ? 0 : plain.length)
    end += length + SEAL_OVERHEAD
    return { region, length }
  })
  sealEach(keyToUse(), itsIvs, parts, ciphers)
  return end
}

type OpenedBlock = { readonly slot: SlotMemory; readonly block: number; readonly bytes: Buffer; readonly at: number }

/** Opens blocks, puts each where it is wanted, and says what became of it. The sealed bytes are used up. `last`: those of the task. */
function openBlocks(slot: SlotMemory, blocks: readonly WantedBlock[], into: OpenInto | undefined, last: boolean): void {
  let at = 0
  const room = own(blocks.reduce((sum, { entry }) => sum + entry.length, 0))
  const sealed = blocks.map(({ entry: { sealedAt, sealedLength } }) => slot.sealed.subarray(sealedAt, sealedAt + sealedLength))
  const bodies = tryUnsealEach(keyToUse(), sealed, ciphers, true)
  const opened = blocks.map(({ block, entry, plain }, index) => {
    const bytes = room.subarray(at, (at += entry.length))
    return { block, entry, plain, bytes, open: unpack(bodies[index], entry.plainLength, bytes) }
  })
  const whole = opened.filter(({ open }) => open)
  const ids = digests(whole.map(({ bytes }) => bytes))
  const sound = whole.filter(({ entry }, index) => Buffer.compare(ids[index] ?? NO_ID, entry.id) === 0)
  if (typeof into === 'number') {
    unwritten.push(sound.map(({ block, bytes, entry }) => ({ slot, block, bytes, at: entry.intoAt })))
    if (turns.tryTake(into)) writeBlocks(into)
    else if (last || unwritten.length === scratches.length) {
      turns.take(into)
      writeBlocks(into)
    }
    return
  }
  for (const { block, bytes, entry, plain } of sound) {
    const memory = into?.[entry.memory - 1]
    bytes.copy(memory === undefined ? plain : Buffer.from(memory, entry.intoAt, entry.length))
    slot.answerSound(block, true)
  }
}

/** Writes what was opened, in this thread's turn, which ends with it. */
function writeBlocks(descriptor: number): void {
  try {
    for (const { slot, block, bytes, at } of unwritten.flat()) slot.answerSound(block, true, writePages(descriptor, bytes, at))
  } finally {
    unwritten.length = 0
    turns.give(descriptor)
  }
}

/** Memory of this thread. What is decompressed into it, which stays in the core's cache, and copied from there takes a third less time than what is decompressed to a place of its own. */
function own(length: number): Buffer {
  const which = unwritten.length
  const known = scratches[which]
  const scratch = known !== undefined && known.length >= length ? known : Buffer.allocUnsafeSlow(length)
  scratches[which] = scratch
  return scratch.subarray(0, length)
}

/** False when it does not come to these bytes, or was not opened. */
function unpack(body: Uint8Array | undefined, plainLength: number, plain: Buffer): boolean {
  if (body === undefined) return false
  if (plainLength > 0) return plainLength === plain.length && opener.decompressInto(body, plain)
  if (body.length !== plain.length) return false
  plain.set(body)
  return true
}
