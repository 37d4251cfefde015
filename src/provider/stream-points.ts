import { type Abortable, AgentError, type BlockSource, type PointId, type PointSummary } from '../core/index.ts'
import { SLICES } from '../restic/index.ts'
import { checkPoints } from './check-points.ts'
import { imageOf, type StoredManifest } from './manifest.ts'
import { pickPoint } from './pick-point.ts'
import {
  type BackupReader,
  noHold,
  type PointDeletion,
  type PointsCheck,
  type PointsHold,
  type PointStore,
  type Problem,
} from './provider.ts'
import { readThrough } from './read-through.ts'
import { FetchedSkeleton } from './skeleton-bytes.ts'
import { type OpenedStream, StreamPool } from './stream-pool.ts'
import type { StreamProduct } from './stream-product.ts'
import { TarArchive } from './tar-archive.ts'
import { closing, openOwn } from './tar-points.ts'
import { unlockedDeletion } from './unlocked-deletion.ts'

/** Restore points in a product that keeps streams. */
export class StreamPoints implements PointStore {
  readonly onlyForwards: string
  readonly #product: StreamProduct

  constructor(product: StreamProduct) {
    this.#product = product
    this.onlyForwards = `${product.url} gives a point back as a stream from its beginning to its end`
  }

  list(options?: Abortable): AsyncIterable<PointSummary> {
    return this.#product.list(options)
  }

  async open(id: string, options?: Abortable): Promise<StreamReader> {
    return StreamReader.open(pickPoint(await this.#ids(options), id, this.#product.url), this.#product, options)
  }

  async hold(): Promise<PointsHold> {
    return noHold
  }

  async *check(id: PointId | undefined, options: PointsCheck = {}): AsyncGenerator<Problem> {
    const ids = await this.#ids(options)
    const points = id === undefined ? ids : [pickPoint(ids, id, this.#product.url)]
    yield* checkPoints(points, options, async (point, readData) => {
      await using reader = await StreamReader.open(point, this.#product, options)
      for (const { name } of reader.manifest.files) await reader.file(name, options)
      for (const { key } of reader.manifest.images) {
        await using disk = await reader.disk(key, options)
        if (readData) await readThrough(disk, options)
      }
    })
    if (id !== undefined || options.structure === false) return
    const { slices } = options
    const everything = options.readData === true && (slices === undefined || slices.length === SLICES)
    for await (const what of this.#product.check(everything, options)) yield { what }
  }

  async delete(id: PointId, options?: Abortable): Promise<void> {
    await this.#product.delete(pickPoint(await this.#ids(options), id, this.#product.url), options)
  }

  async beginDelete(): Promise<PointDeletion> {
    return unlockedDeletion(this)
  }

  async #ids(options?: Abortable): Promise<readonly PointId[]> {
    const ids: PointId[] = []
    for await (const { id } of this.#product.list(options)) ids.push(id)
    return ids
  }
}

/** A point in a product. What is small comes from its skeleton; disks come from the stream, and are read fast only from their beginning to their end. */
class StreamReader implements BackupReader {
  readonly id: PointId
  readonly #archive: TarArchive
  readonly #skeleton: FetchedSkeleton
  readonly #pool: StreamPool
  /** This reader, and disks that may outlive it. */
  #users = 1

  private constructor(id: PointId, archive: TarArchive, skeleton: FetchedSkeleton, pool: StreamPool) {
    this.id = id
    this.#archive = archive
    this.#skeleton = skeleton
    this.#pool = pool
  }

  static async open(id: PointId, product: StreamProduct, options?: Abortable): Promise<StreamReader> {
    const name = `${product.url} ${id}`
    const skeleton = await fetchSkeleton(name, await product.stream(id, 'skeleton', options), options)
    try {
      const archive = await TarArchive.read(skeleton.bytes(notKept), options)
      return new StreamReader(id, archive, skeleton, new StreamPool(name, (more) => product.stream(id, 'archive', more)))
    } catch (error) {
      await skeleton[Symbol.asyncDispose]()
      throw error
    }
  }

  get manifest(): StoredManifest {
    return this.#archive.manifest
  }

  async file(name: string, options?: Abortable): Promise<Uint8Array> {
    if (!this.manifest.files.some((file) => file.name === name)) {
      throw new AgentError('NOT_FOUND', `The restore point ${this.id} has no file ${name}.`, { subject: name })
    }
    return this.#archive.file(name, options)
  }

  async disk(key: number, options?: Abortable): Promise<BlockSource> {
    const image = imageOf(this.manifest, key, this.id)
    const lease = this.#pool.lease()
    const archive = await TarArchive.read(this.#skeleton.bytes(lease.read), options)
    const { source, complete } = await openOwn(archive, image.descriptor.replace(/\.vmdk$/u, ''), options)
    if (!complete || source.size !== image.capacityBytes) {
      throw new AgentError('INTEGRITY', `The restore point ${this.id} does not hold the whole disk ${key}.`, { subject: this.id })
    }
    this.#users++
    return closing(source, {
      [Symbol.asyncDispose]: async () => {
        await lease[Symbol.asyncDispose]()
        await this.#left()
      },
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool[Symbol.asyncDispose]()
    await this.#left()
  }

  async #left(): Promise<void> {
    if (--this.#users === 0) await this.#skeleton[Symbol.asyncDispose]()
  }
}

async function fetchSkeleton(name: string, stream: OpenedStream, options?: Abortable): Promise<FetchedSkeleton> {
  await using opened = stream
  return await FetchedSkeleton.load(name, provenEnd(opened), options)
}

async function* provenEnd({ chunks, failure }: OpenedStream): AsyncGenerator<Uint8Array> {
  yield* { [Symbol.asyncIterator]: () => chunks }
  const failed = await failure()
  if (failed !== undefined) throw failed
}

/** Nothing outside a skeleton is needed to open its archive. */
export const notKept = async (offset: number): Promise<never> => {
  throw new AgentError('INTEGRITY', `A skeleton lacks byte ${offset} of its archive.`)
}
