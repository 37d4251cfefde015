import { readdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import {
  type Abortable,
  AgentError,
  type BlockSource,
  fromErrno,
  isAgentError,
  isMissing,
  type Log,
  type PointId,
  type PointSummary,
  removeFile,
  syncDirectory,
} from '../core/index.ts'
import { overlay } from '../disk/index.ts'
import { checkPoints } from './check-points.ts'
import { imageOf, type StoredManifest, summarise } from './manifest.ts'
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
import { openSparseEntry } from './sparse-entry-source.ts'
import { TarArchive } from './tar-archive.ts'
import { unlockedDeletion } from './unlocked-deletion.ts'

const ENDING = '.tar'
/** A chain longer than this is a circle or a mistake. */
const LONGEST_CHAIN = 10_000

/** Where archives lie: all of a directory, or one file. */
export type ArchivePlace = { readonly directory: string; readonly only?: string | undefined }

/** Restore points kept as one archive each. */
export class TarPoints implements PointStore {
  readonly #place: ArchivePlace
  readonly #url: string
  readonly #log: Log

  constructor(place: ArchivePlace, url: string, log: Log) {
    this.#place = place
    this.#url = url
    this.#log = log
  }

  pathOf(id: PointId): string {
    return join(this.#place.directory, this.#place.only ?? `${id}${ENDING}`)
  }

  async *list(options?: Abortable): AsyncGenerator<PointSummary> {
    for (const id of await this.#ids()) {
      try {
        await using archive = await TarArchive.open(this.pathOf(id), options)
        const { mode, parent } = archive.manifest
        yield { ...summarise(id, this.#url, archive.manifest), needs: mode === 'incremental' ? parent : undefined }
      } catch (error) {
        // A truncated archive is no point and must not hide the good ones; `check` reports it.
        if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND', 'CONFIG')) throw error
        this.#log.warn('an archive is not a complete restore point and is not listed', { point: id, reason: error.message })
      }
    }
  }

  async open(id: string, options?: Abortable): Promise<TarReader> {
    const found = pickPoint(await this.#ids(), id, this.#url)
    return new TarReader(found, await TarArchive.open(this.pathOf(found), options), this)
  }

  async hold(): Promise<PointsHold> {
    return noHold
  }

  async *check(id: PointId | undefined, options: PointsCheck = {}): AsyncGenerator<Problem> {
    const points = id === undefined ? await this.#ids() : [pickPoint(await this.#ids(), id, this.#url)]
    yield* checkPoints(points, options, async (point, readData) => {
      await using reader = await this.open(point, options)
      for (const { name } of reader.manifest.files) await reader.file(name, options)
      for (const { key } of reader.manifest.images) {
        await using disk = await reader.disk(key, options)
        if (readData) await readThrough(disk, options)
      }
    })
  }

  async delete(id: PointId, options?: Abortable): Promise<void> {
    const found = pickPoint(await this.#ids(), id, this.#url)
    for await (const { id: other, mode } of this.list(options)) {
      if (other === found || mode === 'full') continue
      await using archive = await TarArchive.open(this.pathOf(other), options)
      if (archive.manifest.parent !== found) continue
      throw new AgentError('CONFLICT', `The incremental ${other} is built on ${found}, which therefore cannot be deleted.`, {
        subject: found,
        next: `Delete ${other} first.`,
        retry: 'never',
      })
    }
    try {
      await removeFile(this.pathOf(found))
      await syncDirectory(dirname(this.pathOf(found)))
    } catch (error) {
      if (!isMissing(error)) throw fromErrno(error, this.pathOf(found)) ?? error
    }
  }

  async beginDelete(): Promise<PointDeletion> {
    return unlockedDeletion(this)
  }

  async #ids(): Promise<readonly PointId[]> {
    const { directory, only } = this.#place
    try {
      const names = (await readdir(directory, { withFileTypes: true })).filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
      const mine = names.map(({ name }) => name).filter((name) => (only === undefined ? name.endsWith(ENDING) : name === only))
      return mine.map((name) => basename(name, ENDING) as PointId).sort()
    } catch (error) {
      throw fromErrno(error, directory) ?? error
    }
  }
}

/** A point in an archive; of an incremental, its disks stand on those of the parent's archive. */
export class TarReader implements BackupReader {
  readonly id: PointId
  readonly #archive: TarArchive
  readonly #points: TarPoints
  readonly #depth: number

  constructor(id: PointId, archive: TarArchive, points: TarPoints, depth = 0) {
    this.id = id
    this.#archive = archive
    this.#points = points
    this.#depth = depth
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
    // Every disk keeps an archive of its own open, so that it may outlive this reader.
    const archive = await TarArchive.open(this.#archive.path, options)
    try {
      const own = await openOwn(archive, image.descriptor.replace(/\.vmdk$/u, ''), options)
      if (own.source.size !== image.capacityBytes) throw this.#damaged(`holds disk ${key} with ${own.source.size} bytes`)
      const source = own.complete ? own.source : overlay(own.source, await this.#parentDisk(key, image.capacityBytes, options))
      return closing(source, archive)
    } catch (error) {
      await archive[Symbol.asyncDispose]()
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#archive[Symbol.asyncDispose]()
  }

  async #parentDisk(key: number, size: number, options?: Abortable): Promise<BlockSource> {
    const { parent } = this.manifest
    if (parent === undefined) throw this.#damaged('is an incremental and names no parent')
    if (this.#depth >= LONGEST_CHAIN) throw this.#damaged('is the end of a chain without a beginning')
    const path = this.#points.pathOf(parent)
    let archive: TarArchive
    try {
      archive = await TarArchive.open(path, options)
    } catch (error) {
      if (!isAgentError(error, 'NOT_FOUND', 'INTEGRITY')) throw error
      throw new AgentError('INTEGRITY', `The restore point ${this.id} is built on ${parent}, which cannot be read: ${error.message}`, {
        subject: this.id,
        cause: error,
        next: `Put the archive of ${parent} beside it.`,
      })
    }
    await using reader = new TarReader(parent, archive, this.#points, this.#depth + 1)
    const disk = await reader.disk(key, options)
    if (disk.size === size) return disk
    await disk[Symbol.asyncDispose]()
    throw this.#damaged(`is built on a disk of ${disk.size} bytes instead of ${size}`)
  }

  #damaged(what: string): AgentError {
    return new AgentError('INTEGRITY', `The restore point ${this.id} ${what}.`, { subject: this.id })
  }
}

/** A disk's own part of an archive; `complete`: it is all of the disk. The archive must stay open. INTEGRITY. */
export async function openOwn(
  archive: TarArchive,
  stem: string,
  options?: Abortable,
): Promise<{ readonly source: BlockSource; readonly complete: boolean }> {
  const digests = `${stem}.sha256blocks`
  const complete = archive.has(`${stem}-flat.vmdk`)
  const data = complete ? `${stem}-flat.vmdk` : `${stem}.changes`
  return { source: await openSparseEntry(archive, { data, digests }, complete ? 'zero' : 'absent', options), complete }
}

/** `source`, which closes `also` when it is closed. */
export function closing(source: BlockSource, also: AsyncDisposable): BlockSource {
  return {
    size: source.size,
    read: (offset, into, options) => source.read(offset, into, options),
    extents: (range, options) => source.extents(range, options),
    async [Symbol.asyncDispose]() {
      await using _archive = also
      await source[Symbol.asyncDispose]()
    },
  }
}
