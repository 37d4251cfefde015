import { hash } from 'node:crypto'
import { type PointId, type Verdict } from '../core/index.ts'
import type { ArchiveOutput } from './archive-output.ts'
import { ArchiveSkeleton } from './archive-skeleton.ts'
import { summarise } from './manifest.ts'
import { PointNames, pointName } from './point-names.ts'
import type { BackupProvider, BackupWriter, Locking, PointRequest } from './provider.ts'
import { FetchedSkeleton } from './skeleton-bytes.ts'
import { notKept, StreamPoints } from './stream-points.ts'
import type { ProductOutput, StreamProduct } from './stream-product.ts'
import { TarArchive } from './tar-archive.ts'
import { TarWriter } from './tar-writer.ts'
import { wholeOf } from './whole-of.ts'
import { openLocalFile } from '../disk/index.ts'

const NO_PARENT = 'a product that takes a stream stores every point whole; what it has already it does not store again, where it can'

const MOST_NAME_BYTES = 150

/** A product as a destination: each point one archive in its stream, read back through the skeleton beside it. */
export class StreamProvider implements BackupProvider {
  readonly name: string
  readonly url: string
  readonly points: StreamPoints
  readonly about: string
  readonly oneAtATime: string | undefined
  readonly incremental: Verdict = { ok: false, reason: NO_PARENT }
  readonly digests: Verdict = { ok: false, reason: 'an archive keeps digests of its data, not of the blocks of a disk' }
  readonly #product: StreamProduct

  constructor(product: StreamProduct) {
    this.name = product.name
    this.url = product.url
    this.about = product.about
    this.oneAtATime = product.oneAtATime
    this.points = new StreamPoints(product)
    this.#product = product
  }

  async begin(request: PointRequest, options?: Locking): Promise<BackupWriter> {
    const id = pointName(short(new PointNames(request.config).directory), request.time, request.run) as PointId
    const skeleton = await ArchiveSkeleton.open(request.run)
    let output: ProductOutput
    try {
      output = await this.#product.begin(id, request, skeleton.path, options)
    } catch (error) {
      await skeleton[Symbol.asyncDispose]()
      throw error
    }
    return TarWriter.begin(id, request, this.#watched(id, output, skeleton), { refused: NO_PARENT })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Every writer and reader ends its own programs.
  }

  /** The archive into the product, its skeleton beside it. */
  #watched(id: PointId, output: ProductOutput, skeleton: ArchiveSkeleton): ArchiveOutput {
    return {
      async write(bytes) {
        await skeleton.add(bytes)
        await output.write(bytes)
      },
      finish: async () => {
        await using ended = skeleton
        try {
          const skeletonBytes = await ended.end()
          const { archiveBytes } = ended
          // As it will be read back: what cannot be opened now is no point.
          await using file = await openLocalFile(ended.path)
          await using fetched = await FetchedSkeleton.load(`${this.url} ${id}`, wholeOf(file))
          await using archive = await TarArchive.read(fetched.bytes(notKept))
          await output.finish({ summary: summarise(id, this.url, archive.manifest), archiveBytes, skeletonBytes })
        } catch (error) {
          await output.abort()
          throw error
        }
      },
      async abort() {
        await using _ended = skeleton
        await output.abort()
      },
    }
  }
}

/** Products have limits of their own (borg: 255 characters, with an ending of its own); a name cut for length ends in a hash of the whole. */
const short = (directory: string): string =>
  Buffer.byteLength(directory) <= MOST_NAME_BYTES
    ? directory
    : `${directory.slice(0, 40).toWellFormed()}~${hash('sha256', directory).slice(0, 16)}`
