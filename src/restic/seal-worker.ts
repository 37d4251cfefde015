import { hash, randomFillSync } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { ffiCtr, nodeCtr } from './ctr-cipher.ts'
import { IV_BYTES, SEAL_OVERHEAD, sealInPlace } from './sealing.ts'
import { DIGEST, HASH, ID_AT, LENGTH_AT, PLAIN_LENGTH_AT, type SealWorkerData, slotLayout, type TaskMessage } from './seal-tasks.ts'
import { zstdCodec } from './zstd-codec.ts'

/** The thread of a `SealPool`: hash and seal blocks, digest packs, all in shared memory. One reply a task; dies with its pool. */
const { slots, packs, blockSize, key, level, codec: choice } = workerData as SealWorkerData
const port = parentPort
if (port === null) throw new TypeError('seal-worker runs only as a worker thread')
const codec = zstdCodec(level, choice)
const ctr = (choice === 'auto' ? ffiCtr() : undefined) ?? nodeCtr
const layouts = slots.map((memory) => slotLayout(memory, blockSize))
const iv = Buffer.alloc(IV_BYTES)

port.on('message', ([task, kind, target, length]: TaskMessage) => {
  if (kind === DIGEST) {
    const pack = packs[target]
    if (pack === undefined) throw new RangeError(`pack buffer ${target}`)
    port.postMessage([task, hash('sha256', Buffer.from(pack, 0, length), 'buffer')])
    return
  }
  const slot = layouts[target]
  if (slot === undefined) throw new RangeError(`slot ${target}`)
  const plain = slot.plain.subarray(0, length)
  if (kind === HASH) {
    slot.meta.set(hash('sha256', plain, 'buffer'), ID_AT)
    port.postMessage([task, true])
    return
  }
  let stored = codec.compress(plain, slot.sealed.subarray(IV_BYTES, slot.sealed.length - IV_BYTES))
  const compressed = stored !== undefined
  if (stored === undefined) {
    slot.sealed.set(plain, IV_BYTES)
    stored = length
  }
  sealInPlace(key, randomFillSync(iv), slot.sealed, stored, ctr)
  const view = new DataView(slot.meta.buffer, slot.meta.byteOffset, slot.meta.byteLength)
  view.setUint32(LENGTH_AT, stored + SEAL_OVERHEAD, true)
  view.setUint32(PLAIN_LENGTH_AT, compressed ? length : 0, true)
  port.postMessage([task, true])
})
