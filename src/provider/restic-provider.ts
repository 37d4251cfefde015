import { type Abortable, AgentError, type Log, type RunId, type Secret, type Verdict } from '../core/index.ts'
import {
  type Backend,
  initRepository,
  type KdfParameters,
  type KeyStore,
  openRepository,
  type Repository,
  type RepositoryDeps,
  type RepositoryOptions,
} from '../restic/index.ts'
import { DEFAULT_SIZES, LARGEST_BLOCK, type LayoutSizes } from './image-layout.ts'
import { openPlace, type PlaceDeps } from './open-place.ts'
import type { BackupProvider, BackupWriter, Locking, NewRepository, PointRequest, PointStore } from './provider.ts'
import { resticKeys } from './restic-keys.ts'
import { resticLocking, ResticPoints, type ResticReader } from './restic-points.ts'
import { ResticWriter } from './restic-writer.ts'

export type ResticProviderOptions = RepositoryDeps &
  Pick<RepositoryOptions, 'workers' | 'startThreads' | 'compression' | 'cacheDirectory' | 'lockEnds' | 'indexSizes' | 'signal'> & {
    readonly password: Secret
    /** How the server of a repository that is not in a directory is reached. */
    readonly place?: PlaceDeps | undefined
    readonly init?: boolean | undefined
    readonly recordNew?: ((made: NewRepository) => Promise<void>) | undefined
    /** Marks what this process half writes. */
    readonly run?: RunId | undefined
    /** For tests: where disks begin to be cut, and the cost of a new repository's key. */
    readonly sizes?: LayoutSizes | undefined
    readonly kdf?: KdfParameters | undefined
  }

/** Opens (or, with `init`, makes) a restic repository at a place (what stands after `restic:`) or in a given backend, which the provider then owns. */
export async function openResticProvider(place: string | Backend, options: ResticProviderOptions): Promise<BackupProvider> {
  const backend = typeof place === 'string' ? openPlace(place, options.place, options.run) : place
  const settings: RepositoryOptions = {
    blockSize: LARGEST_BLOCK,
    workers: options.workers,
    startThreads: options.startThreads,
    compression: options.compression,
    cacheDirectory: options.cacheDirectory,
    lockEnds: options.lockEnds,
    indexSizes: options.indexSizes,
    signal: options.signal,
  }
  try {
    const repository = await openOrInit(backend, options, settings)
    return new ResticProvider(repository, backend, options)
  } catch (error) {
    await backend[Symbol.asyncDispose]()
    throw error
  }
}

async function openOrInit(backend: Backend, options: ResticProviderOptions, settings: RepositoryOptions): Promise<Repository> {
  const { password, clock, log, random, hostname, username, pid } = options
  const deps = { clock, log, random, hostname, username, pid }
  if (options.init !== true || (await backend.stat({ kind: 'config', name: 'config' }, options)) !== undefined) {
    return openRepository(backend, password, deps, settings)
  }
  const { recordNew } = options
  const recordKey = recordNew && ((key: string) => recordNew({ url: `restic:${backend.url}`, key }))
  return initRepository(backend, password, deps, { ...settings, kdf: options.kdf, recordKey })
}

class ResticProvider implements BackupProvider {
  readonly name = 'restic'
  readonly parallelDisks = true
  readonly url: string
  readonly incremental: Verdict = { ok: true }
  readonly digests: Verdict = { ok: true, note: 'ids of blobs are digests of blocks' }
  readonly points: PointStore
  readonly keys: KeyStore<Locking>
  readonly #points: ResticPoints
  readonly #repository: Repository
  readonly #backend: Backend
  readonly #username: string
  readonly #sizes: LayoutSizes
  readonly #log: Log

  constructor(repository: Repository, backend: Backend, options: ResticProviderOptions) {
    this.url = `restic:${backend.url}`
    this.#repository = repository
    this.#backend = backend
    this.#points = new ResticPoints(repository, this.url, options.log)
    this.points = this.#points
    this.keys = resticKeys(repository.keys, this.url)
    this.#username = options.username
    this.#sizes = options.sizes ?? DEFAULT_SIZES
    this.#log = options.log
    if (this.#sizes.extentBytes % LARGEST_BLOCK !== 0) throw new AgentError('INTERNAL', 'Extents must be whole blocks.')
  }

  async begin(request: PointRequest, options?: Locking): Promise<BackupWriter> {
    let early: Promise<ResticReader | undefined> | undefined
    const meanwhile = (): Promise<unknown> => (early = this.#parent(request, options))
    const writer = await this.#repository.beginWrite({ ...resticLocking(this.url, options), meanwhile })
    try {
      // Under the lock, so that nobody prunes what the parent names.
      const parent = (await this.#stillThere(early, options)) ?? (await this.#parent(request, options))
      return new ResticWriter({ repository: this.#repository, writer, request, parent, sizes: this.#sizes, username: this.#username })
    } catch (error) {
      await writer[Symbol.asyncDispose]()
      throw error
    }
  }

  refuseIfHeld(options?: Abortable): Promise<void> {
    return this.#repository.refuseIfHeld(options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using _backend = this.#backend
    await this.#repository[Symbol.asyncDispose]()
  }

  /** What was read before the lock counted does not change; that its point is still listed is looked at again. NOT_FOUND. */
  async #stillThere(early: Promise<ResticReader | undefined> | undefined, options?: Abortable): Promise<ResticReader | undefined> {
    // Whatever kept it from being read is told by reading it again.
    const parent = await early?.catch(() => undefined)
    if (parent !== undefined) await this.#points.confirm(parent.id, options)
    return parent
  }

  async #parent(request: PointRequest, options?: Abortable): Promise<ResticReader | undefined> {
    if (request.parent === undefined) return undefined
    const parent = await this.#points.open(request.parent, options)
    if (parent.manifest.vm.instanceUuid !== request.config.vm.instanceUuid) {
      throw new AgentError(
        'INTEGRITY',
        `The point ${parent.id} is of the VM ${parent.manifest.vm.name}, not of ${request.config.vm.name}.`,
        {
          subject: request.config.vm.name,
          next: 'Take a full backup.',
        },
      )
    }
    this.#log.debug('building on a parent point', { vm: request.config.vm.name, parent: parent.id })
    return parent
  }
}
