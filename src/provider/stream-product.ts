import type { Abortable, PointId, PointSummary } from '../core/index.ts'
import type { PointRequest } from './provider.ts'
import type { OpenedStream } from './stream-pool.ts'

/** What is known of a point when its archive has ended, and goes into the product beside it. */
export type StoredFacts = { readonly summary: PointSummary; readonly archiveBytes: number; readonly skeletonBytes: number }

/** An archive on its way into a product. Exactly one of `finish` and `abort` ends it; `abort` also after a `finish` that failed. */
export interface ProductOutput {
  /** Resolves when the bytes may be changed again. CAPACITY, UNAVAILABLE. */
  write(bytes: Uint8Array): Promise<void>
  /** The archive has ended and its skeleton is whole: stored, compared with what the product says it has, and made a point, in this order. */
  finish(facts: StoredFacts): Promise<void>
  /** Ends the product's program before its input ends, then removes what it left. */
  abort(): Promise<void>
}

/**
 * A backup product, or a tape, that keeps streams: an archive (docs/formats/tar-archive.md) and its skeleton make a point. It is asked for what
 * it has; vcb keeps no list of its own.
 */
export interface StreamProduct {
  /** What `--repo` begins with. */
  readonly name: string
  readonly url: string
  /** The program and its version. */
  readonly about: string
  /** Why only one point can be written at a time; undefined where several can. */
  readonly oneAtATime: string | undefined
  /** `skeleton` is the path of a file that is empty now and whole when `finish` is called. CONFLICT, AUTH, UNAVAILABLE, CONFIG. */
  begin(id: PointId, request: PointRequest, skeleton: string, options?: Abortable): Promise<ProductOutput>
  list(options?: Abortable): AsyncIterable<PointSummary>
  /** What is stored of a point, from its first byte. NOT_FOUND, UNAVAILABLE. */
  stream(id: PointId, what: 'archive' | 'skeleton', options?: Abortable): Promise<OpenedStream>
  /** NOT_FOUND, CONFLICT. */
  delete(id: PointId, options?: Abortable): Promise<void>
  /** The product's own look at the whole repository; each problem a sentence. */
  check(readData: boolean, options?: Abortable): AsyncIterable<string>
}
