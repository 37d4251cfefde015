import { type AgentError, Coverage } from '../core/index.ts'

/** An extent as the server tells it, in bytes from the one before. */
export type StatusExtent = { readonly length: number; readonly flags: number }

/** One request on its way. What arrives after it was abandoned is thrown away, so that the caller has its buffer for itself again. */
export class PendingRequest {
  readonly command: number
  readonly offset: number
  readonly length: number
  /** For messages: `read 4096 bytes at 0`. */
  readonly what: string
  readonly settled: Promise<void>
  readonly arrived: Coverage
  /** Set by the first error chunk; the rest of the reply follows. */
  error: AgentError | undefined
  extents: readonly StatusExtent[] | undefined
  #into: Uint8Array | undefined
  readonly #resolve: () => void
  readonly #reject: (error: unknown) => void

  constructor(request: { command: number; offset: number; length: number; what: string; into?: Uint8Array | undefined }) {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.command = request.command
    this.offset = request.offset
    this.length = request.length
    this.what = request.what
    this.settled = promise
    this.arrived = new Coverage(request.into === undefined ? 0 : request.length)
    this.#into = request.into
    this.#resolve = resolve
    this.#reject = reject
  }

  /** Bytes for the request's position `at`; bounds were checked. */
  put(piece: Uint8Array, at: number): void {
    this.#into?.set(piece, at)
  }

  putZeros(at: number, length: number): void {
    this.#into?.fill(0, at, at + length)
  }

  abandon(reason: unknown): void {
    this.#into = undefined
    this.#reject(reason)
  }

  /** The reply is complete. */
  end(): void {
    if (this.error === undefined) this.#resolve()
    else this.#reject(this.error)
  }
}
