import { createHash, hash } from 'node:crypto'
import { pack as createPack } from 'tar-stream'
import { AgentError } from '../core/index.ts'
import type { ArchiveOutput } from './archive-output.ts'

/** What `commit.json` says of one entry. */
export type EntryDigest = { readonly name: string; readonly size: number; readonly sha256: string }

/** What an entry's header says; modes and times are the same for all. */
export type EntryHeader = { readonly name: string; readonly size: number; readonly pax?: Readonly<Record<string, string>> | undefined }

type Sink = ReturnType<ReturnType<typeof createPack>['entry']>

/** Data of an entry being written; chunks must not be changed after they were given. */
export type EntryBody = (write: (chunk: Uint8Array) => Promise<void>) => Promise<void>

/**
 * An archive being written, entry after entry, with back-pressure from the output. Entries asked for at once wait for each other.
 * After any failure nothing more is accepted and every call gives that failure.
 */
export class TarStreamWriter {
  readonly entries: EntryDigest[] = []
  readonly #pack = createPack()
  readonly #output: ArchiveOutput
  readonly #mtime: Date
  readonly #pumped: Promise<void>
  #turn: Promise<void> = Promise.resolve()
  #failure: { readonly error: unknown } | undefined
  #ended = false

  constructor(output: ArchiveOutput, mtime: Date) {
    this.#output = output
    this.#mtime = mtime
    this.#pumped = this.#pump()
  }

  /** A whole small entry. */
  file(name: string, body: Uint8Array): Promise<void> {
    const digest = { name, size: body.length, sha256: hash('sha256', body) }
    return this.#inTurn(() => this.#entry({ name, size: body.length }, (write) => write(body), digest))
  }

  /**
   * Runs `body` with a writer of consecutive entries, which no other entry comes between: a disk and what belongs to it.
   * Each entry wants exactly the bytes its header says.
   */
  group<T>(body: (entry: GroupEntry) => Promise<T>): Promise<T> {
    return this.#inTurn(() =>
      body((header, write, sha256) => {
        const name = header.pax?.['GNU.sparse.name'] ?? header.name
        return this.#entry(header, write, { name, size: header.size, sha256 })
      }),
    )
  }

  /** End of the archive, everything durable and visible. */
  async finish(): Promise<void> {
    await this.#inTurn(async () => {
      this.#pack.finalize()
      await this.#pumped
      this.#throwIfFailed()
      this.#ended = true
      await this.#output.finish()
    })
  }

  /** Idempotent; without effect after `finish`. */
  async abort(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    this.#fail(new AgentError('CANCELED', 'The archive was abandoned.'))
    this.#pack.destroy()
    await this.#pumped
    await this.#output.abort()
  }

  async #entry(
    header: EntryHeader,
    body: EntryBody,
    digest: EntryDigest | (Omit<EntryDigest, 'sha256'> & { sha256: string | undefined }),
  ): Promise<void> {
    this.#throwIfFailed()
    const running = digest.sha256 === undefined ? createHash('sha256') : undefined
    const sink = this.#pack.entry({ mode: 0o600, mtime: this.#mtime, type: 'file', ...header })
    const closed = new Promise<void>((resolve, reject) => {
      sink.once('error', reject)
      sink.once('close', resolve)
    })
    // Whoever waits below sees the failure; a sink that breaks while nobody waits must not take the process down.
    closed.catch((error: unknown) => this.#fail(error))
    try {
      await body(async (chunk) => {
        this.#throwIfFailed()
        running?.update(chunk)
        if (chunk.length > 0 && !sink.write(chunk)) await Promise.race([drained(sink), closed])
        this.#throwIfFailed()
      })
      sink.end(null)
      await closed
      this.#throwIfFailed()
    } catch (error) {
      // An entry cut short cannot be repaired: the archive is lost.
      this.#fail(error)
      sink.destroy(null)
      throw this.#failure?.error ?? error
    }
    this.entries.push({ name: digest.name, size: digest.size, sha256: digest.sha256 ?? running?.digest('hex') ?? '' })
  }

  async #pump(): Promise<void> {
    try {
      for await (const chunk of this.#pack as AsyncIterable<Uint8Array>) {
        // Kept before the loop destroys the archive, which fails whoever writes an entry.
        await this.#output.write(chunk).catch((error: unknown) => {
          this.#fail(error)
          throw error
        })
      }
    } catch (error) {
      this.#fail(error)
      this.#pack.destroy()
    }
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#turn
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#turn = promise
    await before
    try {
      this.#throwIfFailed()
      if (this.#ended) throw new AgentError('INTERNAL', 'The archive is already finished.')
      return await work()
    } finally {
      resolve()
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}

/** Writes one entry of a group; without `sha256` it is computed over the whole data. */
export type GroupEntry = (header: EntryHeader, body: EntryBody, sha256?: string) => Promise<void>

const drained = (sink: Sink): Promise<void> => new Promise((resolve) => void sink.once('drain', resolve))
