import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, ensureDirectory, type InputFile, isMissing, openToAppend, removeFile } from '../core/index.ts'

/** Of the state directory. */
const DIRECTORY = 'holders'
/** Logs that are kept; the oldest go first. */
const KEPT = 100
/** A log that has grown so large goes on in a new file, and one old one is kept. Bytes. */
export const HOLDER_LOG = Object.freeze({ maxBytes: 1024 * 1024, files: 2 })

const NAME = /^\d{8}T\d{9}Z-\d+\.log(?:\.\d{8}T\d{9}Z-\d+)?$/

/** Where the holder of a lease logs, and what its process says when it breaks. Private to the user; no secret is ever logged. */
export type HolderLog = AsyncDisposable & { readonly path: string; readonly file: InputFile }

/** Opens the log of a holder that is about to be started, in the state directory, or `configured`. Removes old ones; errors: CONFIG, CAPACITY. */
export async function openHolderLog(
  stateDirectory: string,
  configured: string | undefined,
  { clock }: { readonly clock: Clock },
): Promise<HolderLog> {
  if (configured !== undefined) return opened(configured)
  const directory = join(stateDirectory, DIRECTORY)
  await ensureDirectory(directory)
  await forgetOld(directory)
  const moment = clock.now().toISOString().replaceAll(/[-:.]/g, '')
  return opened(join(directory, `${moment}-${process.pid}.log`))
}

async function opened(path: string): Promise<HolderLog> {
  const file = await openToAppend(path)
  return { path, file, [Symbol.asyncDispose]: () => file.close() }
}

/** Names begin with the moment, so their order is that of their age. */
async function forgetOld(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => NAME.test(name)).toSorted()
  for (const name of names.slice(0, Math.max(0, names.length - KEPT + 1))) {
    try {
      await removeFile(join(directory, name))
    } catch (error) {
      // Another command that began at the same time was quicker.
      if (!isMissing(error)) throw error
    }
  }
}
