import { MIB, readMemory } from '../src/core/index.ts'
import { startCost, WARM_UP, type ReadCost } from './read-cost.ts'

const DEPTH = 4

/** What is read, and the memory it is read into, used again and again as a backup does. */
export type Reader = { readonly size: number; read(offset: number, into: Uint8Array): Promise<void> }

/**
 * Reads `bytes` in all, of each reader its share from the beginning, `passes` times over: in order, four reads of 1 MiB ahead, all readers at once. The first
 * 64 MiB are not timed. `server` = pid whose effort counts too.
 */
export async function readTimed(readers: readonly Reader[], bytes: number, passes: number, server: number | undefined): Promise<ReadCost> {
  const share = bytes / readers.length
  if (readers.length === 0 || readers.some(({ size }) => size < share)) throw new Error('the disks are not as they should be')
  const memory = readers.map(() => Array.from({ length: DEPTH }, () => readMemory(MIB).fill(1)))
  const readAll = (start: number, end: number): Promise<void[]> =>
    Promise.all(readers.map((reader, index) => readRange(reader, memory[index] ?? [], start, end)))
  const warm = Math.floor(WARM_UP / readers.length)
  await readAll(0, warm)
  const done = startCost(server)
  for (let pass = 0; pass < passes; pass++) await readAll(warm, share)
  return done((share - warm) * readers.length * passes)
}

async function readRange(reader: Reader, buffers: readonly Buffer[], start: number, end: number): Promise<void> {
  let at = start
  await Promise.all(
    buffers.map(async (buffer) => {
      while (at < end) {
        const offset = at
        at += MIB
        await reader.read(offset, buffer.subarray(0, Math.min(MIB, end - offset)))
      }
    }),
  )
}
