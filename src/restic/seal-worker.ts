import { hash, randomFillSync } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { ciphersFor } from './ciphers.ts'
import {
  type BlockEntry,
  DIGEST,
  HASH,
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
import { IV_BYTES, type SealKey, sealInPlace, tryUnseal } from './sealing.ts'
import { writePages } from './write-pages.ts'
import { type ZstdCodec, zstdCodec } from './zstd-codec.ts'

/** One of `SealThreads`: hashes, seals and opens blocks and digests packs, all in shared memory. One reply a task; dies with its like. */
const { codec: choice } = workerData as SealWorkerData
const port = parentPort
if (port === null) throw new TypeError('seal-worker runs only as a worker thread')
/** By level: which one is asked for changes from block to block. */
const codecs = new Map<number, ZstdCodec>()
const opener = zstdCodec(1, choice)
const ciphers = ciphersFor(choice)
type Memory = { readonly slots: readonly SlotMemory[]; readonly packs: readonly SharedArrayBuffer[] }
const memories = new Map<number, Memory>()
const iv = Buffer.alloc(IV_BYTES)
let key: SealKey | undefined
let scratch = Buffer.alloc(0)

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

function work([task, memory, kind, target, count, level, into]: TaskMessage): ReplyMessage {
  const { slots, packs } = memories.get(memory) ?? { slots: [], packs: [] }
  if (kind === DIGEST) {
    const pack = packs[target]
    if (pack === undefined) throw new RangeError(`pack buffer ${target}`)
    return [task, hash('sha256', Buffer.from(pack, 0, count), 'buffer')]
  }
  const slot = slots[target]
  if (slot === undefined) throw new RangeError(`slot ${target}`)
  let at = 0
  let sealedAt = 0
  for (let block = 0; block < count; block++) {
    const entry = slot.entry(block)
    const plain = slot.plain.subarray(at, at + entry.length)
    at += entry.length
    if (!entry.wanted) continue
    if (kind === HASH || kind === STORE) slot.answerId(block, hash('sha256', plain, 'buffer'))
    if (kind === SEAL || kind === STORE) sealedAt += sealBlock(slot, block, plain, sealedAt, level)
    else if (kind === OPEN) open(slot, block, entry, plain, into)
  }
  return [task, true]
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

/** Seals a block at `at` of the slot's room; bytes it takes there. */
function sealBlock(slot: SlotMemory, block: number, plain: Uint8Array, at: number, level: number): number {
  const region = slot.sealed.subarray(at)
  const compressed = level === 0 ? undefined : codecOf(level).compress(plain, region.subarray(IV_BYTES, region.length - IV_BYTES))
  if (compressed === undefined) region.set(plain, IV_BYTES)
  const sealed = sealInPlace(keyToUse(), randomFillSync(iv), region, compressed ?? plain.length, ciphers)
  slot.answerSealed(block, at, sealed.length, compressed === undefined ? 0 : plain.length)
  return sealed.length
}

/** Opens a block, puts it where it is wanted, and says what became of it. */
function open(slot: SlotMemory, block: number, entry: BlockEntry, plain: Buffer, into: OpenInto): void {
  const opened = own(entry.length)
  const sound = openBlock(slot, entry, opened)
  let written = 0
  if (sound && typeof into === 'number') written = writePages(into, opened, entry.intoAt)
  else if (sound) opened.copy(into instanceof SharedArrayBuffer ? Buffer.from(into, entry.intoAt, entry.length) : plain)
  slot.answerSound(block, sound, written)
}

/** Memory of this thread. What is decompressed into it, which stays in the core's cache, and copied from there takes a third less time than what is decompressed to a place of its own. */
function own(length: number): Buffer {
  if (length > scratch.length) scratch = Buffer.allocUnsafeSlow(length)
  return scratch.subarray(0, length)
}

/** MAC, decompression, SHA-256: false when any of them says no. The sealed bytes are used up. */
function openBlock(slot: SlotMemory, { id, sealedAt, sealedLength, plainLength }: BlockEntry, plain: Buffer): boolean {
  const body = tryUnseal(keyToUse(), slot.sealed.subarray(sealedAt, sealedAt + sealedLength), ciphers, true)
  if (body === undefined) return false
  if (plainLength === 0) {
    if (body.length !== plain.length) return false
    plain.set(body)
  } else if (plainLength !== plain.length || !opener.decompressInto(body, plain)) return false
  return hash('sha256', plain, 'buffer').equals(id)
}
