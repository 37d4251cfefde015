import { createHash, type Hash } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  AgentError,
  fromErrno,
  KIB,
  makeTemporaryDirectory,
  MIB,
  openOutput,
  type OutputFile,
  removeTree,
  type RunId,
} from '../core/index.ts'

/** Bytes one digest stands for. */
export const DIGEST_STEP = MIB
export const DIGEST_BYTES = 32

const spoolPrefix = (run: RunId): string => `vcb-digests-${run}-`
/** Of the directory of a skeleton that is being written. */
export const skeletonPrefix = (run: RunId): string => `vcb-skeleton-${run}-`

/** Whether a name among temporary files is a spool of this run. */
export const isSpoolOf = (name: string, run: RunId): boolean => name.startsWith(spoolPrefix(run)) || name.startsWith(skeletonPrefix(run))

/**
 * SHA-256 of every MiB of a stream, kept in a nameless temporary file because their number grows with the disk: 32 MB for each TB of data.
 * The file loses its name at once; what a process killed before that leaves has the run's id in its name.
 */
export class DigestSpool implements AsyncDisposable {
  readonly #file: OutputFile
  readonly #path: string
  #hash: Hash = createHash('sha256')
  #inStep = 0
  #pending: Buffer[] = []
  #count = 0

  private constructor(file: OutputFile, path: string) {
    this.#file = file
    this.#path = path
  }

  static async open(run: RunId): Promise<DigestSpool> {
    const directory = await makeTemporaryDirectory(join(tmpdir(), spoolPrefix(run)))
    try {
      return new DigestSpool(await openOutput(join(directory, 'digests'), 'wx+'), directory)
    } catch (error) {
      throw fromErrno(error, directory) ?? error
    } finally {
      await removeTree(directory)
    }
  }

  async add(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + DIGEST_STEP - this.#inStep)
      this.#hash.update(part)
      this.#inStep += part.length
      at += part.length
      if (this.#inStep === DIGEST_STEP) await this.#close()
    }
  }

  /** Ends the stream; bytes of all digests. */
  async end(): Promise<number> {
    if (this.#inStep > 0) await this.#close()
    await this.#flush()
    return this.#count * DIGEST_BYTES
  }

  /** The digests in order, after `end`. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    const total = this.#count * DIGEST_BYTES
    for (let at = 0; at < total; at += 256 * KIB) {
      const chunk = Buffer.allocUnsafeSlow(Math.min(256 * KIB, total - at))
      const bytesRead = await this.#file.read(chunk, at)
      if (bytesRead !== chunk.length) throw new AgentError('INTERNAL', `The temporary digests in ${this.#path} got lost.`)
      yield chunk
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close()
  }

  async #close(): Promise<void> {
    this.#pending.push(this.#hash.digest())
    this.#hash = createHash('sha256')
    this.#inStep = 0
    this.#count++
    if (this.#pending.length >= 4096) await this.#flush()
  }

  async #flush(): Promise<void> {
    const bytes = Buffer.concat(this.#pending)
    const start = this.#count * DIGEST_BYTES - bytes.length
    this.#pending = []
    try {
      await this.#file.write(bytes, start)
    } catch (error) {
      throw fromErrno(error, this.#path) ?? error
    }
  }
}
