import { MIB } from './bytes.ts'
import type { OutputFile } from './files.ts'

/** Bytes written until they are sent to the disk. */
const PIECE = 64 * MIB

/**
 * Sends what is written to a large file to the disk piece by piece, and has the system forget it, while more is written: left alone, a kernel keeps gigabytes back, for which the end has to wait,
 * and fills memory with what nobody reads soon. One object a file, which stays its owner's.
 */
export class WriteBack {
  readonly #file: Pick<OutputFile, 'sync' | 'forget'>
  #bytes = 0
  /** One at a time. */
  #underWay: Promise<void> | undefined
  /** The system tells of a page that could not be written once. */
  #lost: { readonly error: unknown } | undefined

  constructor(file: Pick<OutputFile, 'sync' | 'forget'>) {
    this.#file = file
  }

  /** So many more bytes are written. Called after each write; waits for nothing. */
  wrote(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes < PIECE || this.#underWay !== undefined) return
    this.#bytes = 0
    this.#underWay = this.#send()
  }

  /** Everything written is durable when it resolves. Errors: Node's own, also those of what was sent before. */
  async flush(): Promise<void> {
    await this.#underWay
    await this.#file.sync()
    this.#file.forget()
    if (this.#lost !== undefined) throw this.#lost.error
  }

  /** Nothing uses the file any more when it resolves, and it may be closed. Never rejects. */
  async ended(): Promise<void> {
    await this.#underWay
  }

  async #send(): Promise<void> {
    try {
      await this.#file.sync()
      this.#file.forget()
    } catch (error) {
      this.#lost ??= { error }
    } finally {
      this.#underWay = undefined
    }
  }
}
