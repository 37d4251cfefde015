import { createHash, hash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Abortable,
  AgentError,
  type BlockSource,
  fromErrno,
  isAgentError,
  type Log,
  type PointId,
  type PointSummary,
  renameFile,
  syncDirectory,
} from '../core/index.ts'
import { localDiskFiles, openChain, openLocalFile } from '../disk/index.ts'
import { verifiedByDigests } from './block-digests.ts'
import { checkPoints } from './check-points.ts'
import { imageOf, MAX_FILE_BYTES, MAX_MANIFEST_BYTES, parseManifest, type StoredManifest, summarise } from './manifest.ts'
import { pickPoint } from './pick-point.ts'
import { isSafeName, MANIFEST_FILE } from './point-names.ts'
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
import { deletedPath, removeDeleted } from './remove-deleted.ts'
import { unlockedDeletion } from './unlocked-deletion.ts'

export const SUMS_FILE = 'SHA256SUMS'
const MAX_SUMS_BYTES = 16 * 1024 * 1024

/** Restore points kept as one directory of VMX and VMDK files each. */
export class DirPoints implements PointStore {
  readonly #directory: string
  readonly #url: string
  readonly #log: Log

  constructor(directory: string, url: string, log: Log) {
    this.#directory = directory
    this.#url = url
    this.#log = log
  }

  async *list(options?: Abortable): AsyncGenerator<PointSummary> {
    for (const id of await this.#ids()) {
      try {
        await using reader = await this.open(id, options)
        yield summarise(id, this.#url, reader.manifest)
      } catch (error) {
        if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND', 'CONFIG')) throw error
        this.#log.warn('a directory is not a complete restore point and is not listed', { point: id, reason: error.message })
      }
    }
  }

  async open(id: string, _options?: Abortable): Promise<DirReader> {
    const found = pickPoint(await this.#ids(), id, this.#url)
    return DirReader.open(found, join(this.#directory, found))
  }

  async hold(): Promise<PointsHold> {
    return noHold
  }

  async *check(id: PointId | undefined, options: PointsCheck = {}): AsyncGenerator<Problem> {
    const points = id === undefined ? await this.#ids() : [pickPoint(await this.#ids(), id, this.#url)]
    yield* checkPoints(points, options, async (point, readData) => {
      await using reader = await this.open(point, options)
      for (const { name } of reader.manifest.files) await reader.file(name)
      for (const { key } of reader.manifest.images) {
        await using disk = await reader.disk(key, options)
        if (readData) await readThrough(disk, options)
      }
    })
  }

  async delete(id: PointId): Promise<void> {
    const found = pickPoint(await this.#ids(), id, this.#url)
    // Gone from the list at one moment, however long the removal takes.
    const doomed = deletedPath(this.#directory, found)
    try {
      await renameFile(join(this.#directory, found), doomed)
      await syncDirectory(this.#directory)
      await removeDeleted(this.#url, found)
    } catch (error) {
      throw fromErrno(error, doomed) ?? error
    }
  }

  async beginDelete(): Promise<PointDeletion> {
    return unlockedDeletion(this)
  }

  async #ids(): Promise<readonly PointId[]> {
    try {
      const entries = await readdir(this.#directory, { withFileTypes: true })
      return entries
        .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
        .map(({ name }) => name as PointId)
        .sort()
    } catch (error) {
      throw fromErrno(error, this.#directory) ?? error
    }
  }
}

class DirReader implements BackupReader {
  readonly id: PointId
  readonly manifest: StoredManifest
  readonly #directory: string
  readonly #sums: ReadonlyMap<string, string>

  private constructor(id: PointId, directory: string, manifest: StoredManifest, sums: ReadonlyMap<string, string>) {
    this.id = id
    this.#directory = directory
    this.manifest = manifest
    this.#sums = sums
  }

  /** INTEGRITY when the directory is not a complete point. */
  static async open(id: PointId, directory: string): Promise<DirReader> {
    const sums = parseSums(await readBounded(join(directory, SUMS_FILE), MAX_SUMS_BYTES), directory)
    const manifest = parseManifest(await readVerified(directory, MANIFEST_FILE, sums, MAX_MANIFEST_BYTES), directory)
    return new DirReader(id, directory, manifest, sums)
  }

  async file(name: string): Promise<Uint8Array> {
    if (!this.manifest.files.some((file) => file.name === name)) {
      throw new AgentError('NOT_FOUND', `The restore point ${this.id} has no file ${name}.`, { subject: name })
    }
    return readVerified(this.#directory, name, this.#sums, MAX_FILE_BYTES)
  }

  async disk(key: number, options?: Abortable): Promise<BlockSource> {
    const image = imageOf(this.manifest, key, this.id)
    const name = `${image.descriptor.replace(/\.vmdk$/u, '')}.sha256blocks`
    const digests = await openLocalFile(join(this.#directory, name))
    try {
      await verifyWhole(digests, this.#sums.get(name))
      const disk = await openChain(join(this.#directory, image.descriptor), localDiskFiles(), options)
      try {
        if (disk.size !== image.capacityBytes) throw incomplete(this.#directory, `holds disk ${key} with ${disk.size} bytes`)
        return await verifiedByDigests(disk, digests, options)
      } catch (error) {
        await disk[Symbol.asyncDispose]()
        throw error
      }
    } catch (error) {
      await digests[Symbol.asyncDispose]()
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Files are opened per disk.
  }
}

/** Digest of a whole file through a bounded buffer: the digest list of a big disk is itself big. */
export async function digestOf(file: { readonly size: number; read(offset: number, into: Uint8Array): Promise<void> }): Promise<string> {
  const running = createHash('sha256')
  const chunk = Buffer.alloc(1024 * 1024)
  for (let at = 0; at < file.size; at += chunk.length) {
    const part = chunk.subarray(0, Math.min(chunk.length, file.size - at))
    await file.read(at, part)
    running.update(part)
  }
  return running.digest('hex')
}

async function verifyWhole(file: Awaited<ReturnType<typeof openLocalFile>>, sha256: string | undefined): Promise<void> {
  if (sha256 === undefined || (await digestOf(file)) !== sha256) throw incomplete(file.name, 'is damaged')
}

async function readVerified(directory: string, name: string, sums: ReadonlyMap<string, string>, most: number): Promise<Uint8Array> {
  const body = await readBounded(join(directory, name), most)
  if (hash('sha256', body) !== sums.get(name)) throw incomplete(join(directory, name), 'is damaged')
  return body
}

/** `SHA256SUMS` as sha256sum writes it. A name with a backslash or line break cannot be in a restore point. */
function parseSums(body: Uint8Array, directory: string): ReadonlyMap<string, string> {
  const sums = new Map<string, string>()
  for (const line of Buffer.from(body).toString('utf8').split('\n')) {
    if (line === '') continue
    const [, sha256, name] = /^([0-9a-f]{64}) [ *](.+)$/u.exec(line) ?? []
    if (sha256 === undefined || name === undefined || !isSafeName(name)) throw incomplete(directory, `has a damaged ${SUMS_FILE}`)
    sums.set(name, sha256)
  }
  return sums
}

async function readBounded(path: string, most: number): Promise<Uint8Array> {
  try {
    const { size } = await stat(path)
    if (size > most) throw incomplete(path, `has ${size} bytes, too many`)
    return await readFile(path)
  } catch (error) {
    if (isAgentError(fromErrno(error), 'NOT_FOUND')) throw incomplete(path, 'is missing', error)
    throw fromErrno(error, path) ?? error
  }
}

const incomplete = (path: string, what: string, cause?: unknown): AgentError =>
  new AgentError('INTEGRITY', `${path} ${what}, so the restore point is not complete.`, { subject: path, cause })
