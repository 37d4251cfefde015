import { hash, randomFillSync } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { ffiCtr, nodeCtr } from './ctr-cipher.ts'
import {
  type BlockEntry,
  DIGEST,
  HASH,
  type ReplyMessage,
  SEAL,
  type SealWorkerData,
  SlotMemory,
  type TaskMessage,
  type ThreadMessage,
} from './seal-tasks.ts'
import { IV_BYTES, type SealKey, sealInPlace, tryUnseal } from './sealing.ts'
import { type ZstdCodec, zstdCodec } from './zstd-codec.ts'

/** One of `SealThreads`: hashes, seals and opens blocks and digests packs, all in shared memory. One reply a task; dies with its like. */
const { codec: choice } = workerData as SealWorkerData
const port = parentPort
if (port === null) throw new TypeError('seal-worker runs only as a worker thread')
/** By level: which one is asked for changes from block to block. */
const codecs = new Map<number, ZstdCodec>()
const opener = zstdCodec(1, choice)
const ctr = (choice === 'auto' ? ffiCtr() : undefined) ?? nodeCtr
type Memory = { readonly slots: readonly SlotMemory[]; readonly packs: readonly SharedArrayBuffer[] }
const memories = new Map<number, Memory>()
const iv = Buffer.alloc(IV_BYTES)
let key: SealKey | undefined

port.on('message', (message: TaskMessage | ThreadMessage) => {
  if (!('key' in message || 'attach' in message || 'detach' in message)) port.postMessage(answer(message))
  else if ('key' in message) key = message.key
  else if ('detach' in message) memories.delete(message.detach)
  else {
    const { attach, slots, packs, blockSize } = message
    memories.set(attach, { slots: slots.map((slot) => new SlotMemory(slot, blockSize)), packs })
  }
})

function answer([task, memory, kind, target, count, level]: TaskMessage): ReplyMessage {
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
    if (kind === HASH) slot.answerId(block, hash('sha256', plain, 'buffer'))
    else if (kind === SEAL) sealedAt += sealBlock(slot, block, plain, sealedAt, level)
    else slot.answerSound(block, openBlock(slot, entry, plain))
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
  const sealed = sealInPlace(keyToUse(), randomFillSync(iv), region, compressed ?? plain.length, ctr)
  slot.answerSealed(block, at, sealed.length, compressed === undefined ? 0 : plain.length)
  return sealed.length
}

/** MAC, decompression, SHA-256: false when any of them says no. The sealed bytes are used up. */
function openBlock(slot: SlotMemory, { id, sealedAt, sealedLength, plainLength }: BlockEntry, plain: Buffer): boolean {
  const body = tryUnseal(keyToUse(), slot.sealed.subarray(sealedAt, sealedAt + sealedLength), ctr, true)
  if (body === undefined) return false
  if (plainLength === 0) {
    if (body.length !== plain.length) return false
    plain.set(body)
  } else if (plainLength !== plain.length || !opener.decompressInto(body, plain)) return false
  return hash('sha256', plain, 'buffer').equals(id)
}
