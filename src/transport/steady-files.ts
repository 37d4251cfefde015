import { stat } from 'node:fs/promises'
import { type Abortable, AgentError, type BlockSource, type Clock, isMissing, type Range } from '../core/index.ts'
import type { DiskFiles } from '../disk/index.ts'

/** Between two looks at the sizes of the files that are read, ms. */
const LOOK_MS = 1000

/** The size each file had when it was opened. */
export type OpenedSizes = ReadonlyMap<string, number>

/** The same files; what was opened is noted in `sizes`. */
export const noting = (files: DiskFiles, sizes: Map<string, number>): DiskFiles =>
  Object.freeze({
    resolve: (reference: string, from: string | undefined) => files.resolve(reference, from),
    open: async (location: string, options?: Abortable) => {
      const file = await files.open(location, options)
      sizes.set(location, file.size)
      return file
    },
  })

/**
 * A disk of frozen files, which never change their size: when one does in mid-read, what was read before may be wrong too, and the read fails with
 * INTEGRITY. Looked at once a second, after the read. Owns `source`.
 */
export function steady(source: BlockSource, sizes: OpenedSizes, clock: Clock): BlockSource {
  let lookedAt = clock.monotonicMs()
  return Object.freeze({
    size: source.size,
    async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
      await source.read(offset, into, options)
      const now = clock.monotonicMs()
      if (now - lookedAt < LOOK_MS) return
      lookedAt = now
      for (const [path, size] of sizes) await checkSize(path, size)
    },
    extents: (range: Range, options?: Abortable) => source.extents(range, options),
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  })
}

async function checkSize(path: string, size: number): Promise<void> {
  let now: number
  try {
    now = (await stat(path)).size
  } catch (error) {
    // An error of the file system comes with the next read of its bytes, if they are needed.
    if (!isMissing(error)) return
    now = 0
  }
  if (now === size) return
  throw new AgentError('INTEGRITY', `${path} had ${size} bytes when it was opened and has ${now} now, although it is frozen.`, {
    subject: path,
    next: 'Something else changes the files of this VM (a consolidation, another backup); run the backup again when it is done.',
  })
}
