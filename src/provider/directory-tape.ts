import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import {
  AgentError,
  fromErrno,
  isMissing,
  openInput,
  openOutput,
  removeFile,
  renameFile,
  type RunId,
  syncDirectory,
  WriteBack,
} from '../core/index.ts'
import type { OpenedStream } from './stream-pool.ts'
import type { TapeDevice, TapeFile } from './tape-device.ts'

/** Bytes read at a time. */
const READ = 256 * 1024

const fileName = (file: number): string => String(file).padStart(6, '0')

/**
 * A directory that stands in for a tape, each tape file one file (`000000`, `000001`, …). The file that is written has the run's id in its name
 * (`.tape.RUN.partial`) until its mark, so that `removePartials` finds it when the process died.
 */
export class DirectoryTape implements TapeDevice {
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
  }

  async files(): Promise<number> {
    const names = new Set(await this.#names())
    let count = 0
    while (names.has(fileName(count))) count++
    return count
  }

  async append(run: RunId): Promise<TapeFile> {
    const own = `.tape.${run}.partial`
    const partial = join(this.#directory, own)
    const file = await openOutput(partial, 'wx').catch((error: unknown) => this.#failed(error))
    const back = new WriteBack(file)
    const abort = async (): Promise<void> => {
      await back.ended()
      await file.close()
      await removeFile(partial)
    }
    let number: number
    try {
      // Looked for when ours is there already: of two that begin at once neither misses the other, and who ended before is counted.
      const busy = (await this.#names()).find((name) => name.endsWith('.partial') && name !== own)
      if (busy !== undefined) throw this.#inUse(busy)
      number = await this.files()
    } catch (error) {
      await abort()
      throw error
    }
    const path = join(this.#directory, fileName(number))
    return {
      number,
      write: async (block) => {
        await file.write(block).catch((error: unknown) => this.#failed(error))
        back.wrote(block.length)
      },
      mark: async () => {
        try {
          await back.flush()
          await file.close()
          await renameFile(partial, path)
          await syncDirectory(this.#directory)
        } catch (error) {
          this.#failed(error)
        }
      },
      abort,
    }
  }

  async read(number: number): Promise<OpenedStream> {
    const path = join(this.#directory, fileName(number))
    const file = await openInput(path).catch((error: unknown) => this.#failed(error))
    async function* chunks(): AsyncGenerator<Uint8Array> {
      for (let at = 0; ; ) {
        const chunk = new Uint8Array(READ)
        const { bytesRead } = await file.read(chunk, 0, READ, at)
        if (bytesRead === 0) return
        at += bytesRead
        yield chunk.subarray(0, bytesRead)
      }
    }
    return { chunks: chunks(), failure: async () => undefined, [Symbol.asyncDispose]: () => file.close() }
  }

  async #names(): Promise<readonly string[]> {
    return readdir(this.#directory).catch((error: unknown) => {
      if (!isMissing(error)) return this.#failed(error)
      throw new AgentError('NOT_FOUND', `There is no directory ${this.#directory} to be a tape.`, {
        subject: this.#directory,
        next: 'Make it, or name another.',
      })
    })
  }

  #inUse(busy: string): AgentError {
    return new AgentError('CONFLICT', `Another run writes to the tape ${this.#directory}.`, {
      subject: join(this.#directory, busy),
      next: 'Wait for it to end; when it died, run "vcb recover".',
    })
  }

  #failed(error: unknown): never {
    throw fromErrno(error, this.#directory) ?? error
  }
}
