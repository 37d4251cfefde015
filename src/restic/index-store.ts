import { type Abortable, AgentError, isAgentError, type Log, toAgentError } from '../core/index.ts'
import { BlobIndex } from './blob-index.ts'
import { CompleteTrees } from './index-cache/complete-trees.ts'
import { DamagedRun } from './index-cache/damaged-run.ts'
import type { IndexCache } from './index-cache/index-cache.ts'
import { parseIndexFile } from './index-file.ts'
import { RepositoryIndex } from './repository-index.ts'
import type { SealedFiles } from './sealed-files.ts'

/** Index files read at once. */
const LANES = 3
/** So many blobs in memory, 30 MB, are enough to make a run of. */
const SPILL_BLOBS = 500_000
/** A repository that is read in a moment gets no cache: fewer blobs in fewer files than these. So many take a twentieth of a second. */
const CACHE_BLOBS = 10_000
const CACHE_FILES = 64
/** More runs than these cost more to search than to merge. */
const MOST_RUNS = 12

/** Numbers of packs in the index, the end left out. */
export type PackRange = { readonly from: number; readonly to: number }

export type IndexStoreOptions = {
  /** Where index files are kept sorted for the next time; without, all of the index is in memory. */
  readonly cache?: IndexCache | undefined
  /** For tests: how many blobs are many. */
  readonly spillBlobs?: number | undefined
  readonly cacheBlobs?: number | undefined
}

/** The index of a repository: loaded at first use, from the local cache as far as that goes, and brought up to date on demand. */
export class IndexStore implements AsyncDisposable {
  readonly #files: SealedFiles
  readonly #log: Log
  readonly #spillBlobs: number
  readonly #cacheBlobs: number
  /** What was found complete, of the index as it is now. */
  readonly complete = new CompleteTrees()
  #cache: IndexCache | undefined
  #index: RepositoryIndex | undefined
  /** Indexes that were started anew: somebody may still look up in them. */
  readonly #before: RepositoryIndex[] = []
  #loaded = new Set<string>()
  #packs = new Map<string, PackRange>()
  #turn: Promise<unknown> = Promise.resolve()
  #spilling: Promise<void> | undefined
  /** Writers at work: blobs they put into the index are not in any file yet, so it must not be replaced. */
  #writers = 0

  constructor(files: SealedFiles, log: Log, options: IndexStoreOptions = {}) {
    this.#files = files
    this.#log = log
    this.#cache = options.cache
    this.#spillBlobs = options.spillBlobs ?? SPILL_BLOBS
    this.#cacheBlobs = options.cacheBlobs ?? CACHE_BLOBS
  }

  /** The index, loaded if it was not yet. Looking something up in it may find its cache damaged: `ask` does not. */
  async current(options?: Abortable): Promise<RepositoryIndex> {
    return this.#index ?? (await this.refresh(options))
  }

  /** Puts a question to the index, again after what was found damaged of its cache was read anew. It must have no effects that a second time would double. */
  async ask<T>(question: (index: RepositoryIndex) => T, options?: Abortable): Promise<T> {
    for (;;) {
      const index = await this.current(options)
      try {
        return question(index)
      } catch (error) {
        await this.mend(index, error, options)
      }
    }
  }

  /** Replaces the part of the cache that a look-up in `index` found damaged; throws any other error. */
  async mend(index: RepositoryIndex, error: unknown, options?: Abortable): Promise<void> {
    if (!(error instanceof DamagedRun)) throw error
    await this.#inTurn(() => this.#mend(index, error, options))
  }

  /**
   * Reads index files that are new; starts anew when some have gone (a prune). INTEGRITY naming a file that cannot be read; CONFLICT when
   * files have gone although our own writers hold locks.
   */
  refresh(options?: Abortable): Promise<RepositoryIndex> {
    return this.#inTurn(() => this.#again(() => this.#load(options)))
  }

  /** All of the index in memory, as the index files in the repository have it; for checks. Errors as of `refresh`. */
  async whole(options?: Abortable): Promise<BlobIndex> {
    const { inMemory } = await this.refresh(options)
    if (inMemory !== undefined) return inMemory
    const index = new BlobIndex()
    for await (const { name } of this.#files.backend.list('index', options)) await this.#read(name, index, options)
    return index
  }

  writerBegins(): void {
    this.#writers++
  }

  /** `sound`: everything in the index is stored and in index files. Otherwise it is read anew at the next use. */
  writerEnds(sound: boolean): void {
    this.#writers--
    if (!sound && this.#writers === 0) this.#forget()
  }

  /** The files that the index was read from, each with its packs in `whole`. Not those of a writer of this process, nor of the cache. */
  get files(): ReadonlyMap<string, PackRange> {
    return this.#packs
  }

  /** An index file of our own, with the numbers of its packs in `index`: its blobs are known. */
  note(index: RepositoryIndex, name: string, packs: readonly number[]): void {
    if (index !== this.#index) return
    this.#loaded.add(name)
    index.inFile(name, packs)
    if (this.#cache === undefined || index.recentCount < this.#spillBlobs) return
    // Whoever notes does not wait, and what goes wrong is logged: the index is as good in memory.
    void this.#inTurn(async () => {
      if (index === this.#index && index.recentCount >= this.#spillBlobs) await this.#spill(index)
    })
  }

  /**
   * To be called before a writer makes everything durable; what it returns, after: what is new in the index and what was found complete until then is kept for
   * the next process.
   */
  completing(): () => Promise<void> {
    const keys = this.complete.fresh
    return async () => {
      this.complete.keep(keys)
      const alone = this.#writers === 1
      await this.#inTurn(async () => {
        const index = this.#index
        if (index === undefined) return
        // What other writers have under way would be copied from one memory into another; the last of them comes by here, too.
        if (alone && this.#many(index)) await this.#spill(index)
        // A repository that is read in a moment is looked through in a moment.
        if (keys.length === 0 || index.runs.length === 0) return
        await this.#withCache((cache) => this.complete.save(cache.completePath, this.#loaded))
      })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What is on its way into the cache is written from what is open.
    await this.#turn
    for (const index of [...this.#before, this.#index]) await index?.close()
    this.#before.length = 0
    this.#index = undefined
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    // A failure is the caller's; the next in turn tries again.
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  #forget(): void {
    if (this.#index !== undefined) this.#before.push(this.#index)
    this.#index = undefined
    this.#loaded = new Set()
    this.#packs = new Map()
    this.complete.clear()
  }

  async #again<T>(load: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await load()
      } catch (error) {
        // A file of the list was gone when it was read: an index was just rewritten.
        if (!isAgentError(error, 'NOT_FOUND') || attempt === 3) throw error
      }
    }
  }

  async #load(options?: Abortable): Promise<RepositoryIndex> {
    const present = new Set<string>()
    for await (const { name } of this.#files.backend.list('index', options)) present.add(name)
    if ([...this.#loaded].some((name) => !present.has(name))) {
      if (this.#writers > 0) {
        throw new AgentError('CONFLICT', `Index files of the repository ${this.#files.backend.url} were removed while it is written to.`, {
          next: 'Never run "restic prune" after "restic unlock --remove-all" while a backup runs; run the backup again.',
        })
      }
      this.#forget()
    }
    const index = this.#index ?? (await this.#start(present))
    try {
      await this.#readFiles(
        [...present].filter((name) => !this.#loaded.has(name)),
        index,
        options,
      )
    } catch (error) {
      if (this.#index === undefined) {
        await index.close()
        this.#loaded = new Set()
      }
      throw error
    }
    this.#index = index
    if (this.#many(index)) await this.#spill(index)
    await this.#tidy(index)
    return index
  }

  /** Whether what is in memory alone is worth a run. */
  #many({ recentFiles, recentCount }: RepositoryIndex): boolean {
    return recentFiles >= CACHE_FILES || recentCount >= this.#cacheBlobs
  }

  /** An index of what the cache has of the index files `present`. */
  async #start(present: ReadonlySet<string>): Promise<RepositoryIndex> {
    const runs = (await this.#withCache((cache) => cache.open(present))) ?? []
    await this.#withCache((cache) => this.complete.load(cache.completePath, present))
    for (const { facts } of runs) for (const file of facts.files) this.#loaded.add(file)
    return new RepositoryIndex(runs)
  }

  async #readFiles(names: string[], index: RepositoryIndex, options?: Abortable): Promise<void> {
    const lane = async (): Promise<void> => {
      for (let name = names.pop(); name !== undefined; name = names.pop()) {
        index.inFile(name, await this.#read(name, index, options))
        this.#loaded.add(name)
        if (this.#cache === undefined || index.recentCount < this.#spillBlobs) continue
        this.#spilling ??= this.#spill(index).finally(() => (this.#spilling = undefined))
        await this.#spilling
      }
    }
    await Promise.all(Array.from({ length: LANES }, lane))
  }

  /** Moves what index files hold from memory into a run. */
  async #spill(index: RepositoryIndex): Promise<void> {
    if (this.#cache === undefined || index.recentFiles === 0) return
    const { stream, files } = index.leave()
    const run = await this.#withCache((cache) => cache.add(stream, files, index.runs))
    if (run !== undefined) index.left(run)
    if (index.runs.length > MOST_RUNS && this.#index === index) await this.#tidy(index)
  }

  /** Drops from the cache what does not count any more, and merges runs. */
  async #tidy(index: RepositoryIndex): Promise<void> {
    await this.#withCache(async (cache) => {
      await cache.keep(index.runs)
      try {
        index.useRuns(await cache.compact(index.runs))
      } catch (error) {
        // Whoever looks up in that run mends it.
        if (!(error instanceof DamagedRun)) throw error
      }
    })
  }

  async #mend(index: RepositoryIndex, { run, message }: DamagedRun, options?: Abortable): Promise<void> {
    const damaged = index.runs.find(({ facts }) => facts.name === run)
    // Another look-up has found and mended it before.
    if (damaged === undefined || index !== this.#index) return
    this.#log.warn('a part of the cache of a repository index is damaged and is made anew', {
      repository: this.#files.backend.url,
      reason: message,
    })
    try {
      await this.#readFiles([...damaged.facts.files], index, options)
    } catch (error) {
      // A prune has rewritten the index: there is nothing left to mend.
      if (!isAgentError(error, 'NOT_FOUND') || this.#writers > 0) throw error
      this.#forget()
      return
    }
    index.useRuns(index.runs.filter((each) => each !== damaged))
    await this.#withCache((cache) => cache.keep(index.runs))
  }

  /** What cannot be kept on the local disk is kept in memory: a full disk of the proxy is no reason for a backup to fail. */
  async #withCache<T>(work: (cache: IndexCache) => Promise<T>): Promise<T | undefined> {
    if (this.#cache === undefined) return undefined
    try {
      return await work(this.#cache)
    } catch (error) {
      this.#log.warn('the index of a repository cannot be kept on the local disk and stays in memory', {
        repository: this.#files.backend.url,
        reason: toAgentError(error).message,
      })
      this.#cache = undefined
      return undefined
    }
  }

  /** Numbers of the packs in the file. */
  async #read(name: string, index: Pick<BlobIndex, 'addPack' | 'add' | 'packCount'>, options?: Abortable): Promise<number[]> {
    const packs: number[] = []
    try {
      const json = await this.#files.load({ kind: 'index', name }, options)
      const from = index.packCount
      parseIndexFile(json, name, (id, blobs) => {
        const pack = index.addPack(id)
        packs.push(pack)
        for (let number = 0; number < blobs.count; number++) index.add(blobs.id(number), blobs.place(number), pack)
      })
      // Parsed in one go, so that its packs have numbers in a row.
      this.#packs.set(name, { from, to: index.packCount })
      return packs
    } catch (error) {
      if (!isAgentError(error, 'INTEGRITY')) throw error
      this.#log.error('An index file of the repository is damaged.', { repository: this.#files.backend.url, file: name })
      throw new AgentError(
        'INTEGRITY',
        `${error.message.replace(/\.$/u, '')}, so the repository ${this.#files.backend.url} cannot be used.`,
        {
          subject: name,
          cause: error,
          next: 'Rebuild the index with "restic rebuild-index" ("restic repair index" in newer releases), then check the repository.',
        },
      )
    }
  }
}
