import { type Abortable, AgentError, isAgentError } from '../core/index.ts'
import type { RepositoryDeps, SnapshotRemoval, SnapshotStore } from './repository.ts'
import { type Locking, RepositoryLock } from './repository-lock.ts'
import type { SealedFiles } from './sealed-files.ts'
import { isHexId } from './ids.ts'
import { parseSnapshot, type StoredSnapshot } from './snapshot.ts'

const MIN_PREFIX = 6
/** Snapshots kept in memory, about 1 KiB each. */
const MOST_KNOWN = 30_000

/** The snapshot files of a repository. */
export class SnapshotFiles implements SnapshotStore {
  readonly #files: SealedFiles
  readonly #deps: RepositoryDeps
  /** By name, which is the digest of the file: what was read once is never another. Whether it is still there, only the listing tells. */
  readonly #known = new Map<string, StoredSnapshot>()

  constructor(files: SealedFiles, deps: RepositoryDeps) {
    this.#files = files
    this.#deps = deps
  }

  async *list(options?: Abortable): AsyncGenerator<StoredSnapshot> {
    const listed = new Set<string>()
    for await (const { name } of this.#files.backend.list('snapshot', options)) {
      listed.add(name)
      const known = this.#known.get(name)
      if (known !== undefined) {
        yield known
        continue
      }
      try {
        const snapshot = await this.#load(name, options)
        if (this.#known.size < MOST_KNOWN) this.#known.set(name, snapshot)
        yield snapshot
      } catch (error) {
        // Forgotten between listing and reading.
        if (!isAgentError(error, 'NOT_FOUND')) throw error
      }
    }
    for (const name of this.#known.keys()) if (!listed.has(name)) this.#known.delete(name)
  }

  async get(id: string, options?: Abortable): Promise<StoredSnapshot> {
    if (!/^[0-9a-f]{6,64}$/u.test(id)) {
      throw new AgentError('USAGE', `${JSON.stringify(id)} is not a snapshot id: at least ${MIN_PREFIX} hex digits are needed.`)
    }
    const found: string[] = []
    if (isHexId(id)) found.push(id)
    else for await (const { name } of this.#files.backend.list('snapshot', options)) if (name.startsWith(id)) found.push(name)
    const [name, other] = found
    if (name === undefined) throw this.#noSnapshot(id)
    if (other !== undefined) {
      throw new AgentError('USAGE', `The snapshot id ${id} is ambiguous: ${found.length} snapshots begin with it.`, {
        subject: id,
        next: 'Give more digits of the id.',
      })
    }
    try {
      return await this.#load(name, options)
    } catch (error) {
      throw isAgentError(error, 'NOT_FOUND') ? this.#noSnapshot(id, error) : error
    }
  }

  async forget(ids: readonly string[], options?: Locking): Promise<void> {
    for (const id of ids) refusePrefix(id)
    if (ids.length === 0) return
    await using removal = await this.beginForget(options)
    for (const id of ids) await removal.remove(id, options)
  }

  async beginForget(options?: Locking): Promise<SnapshotRemoval> {
    const lock = await RepositoryLock.take(this.#files, this.#deps, { ...options, exclusive: true })
    return {
      signal: lock.signal,
      remove: async (id, inner) => {
        refusePrefix(id)
        await lock.verify(inner)
        await this.#files.backend.remove({ kind: 'snapshot', name: id }, inner)
      },
      [Symbol.asyncDispose]: () => lock[Symbol.asyncDispose](),
    }
  }

  async lockedUntil(id: string, options?: Abortable): Promise<Date | undefined> {
    refusePrefix(id)
    return this.#files.backend.lockedUntil?.({ kind: 'snapshot', name: id }, options)
  }

  #noSnapshot(id: string, cause?: unknown): AgentError {
    return new AgentError('NOT_FOUND', `The repository ${this.#files.backend.url} has no snapshot ${id}.`, { subject: id, cause })
  }

  async #load(name: string, options?: Abortable): Promise<StoredSnapshot> {
    return parseSnapshot(await this.#files.loadJson({ kind: 'snapshot', name }, options), name)
  }
}

function refusePrefix(id: string): void {
  if (!isHexId(id)) throw new AgentError('USAGE', `${JSON.stringify(id)} is not a full snapshot id.`)
}
