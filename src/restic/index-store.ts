import { type Abortable, AgentError, isAgentError, type Log } from '../core/index.ts'
import { BlobIndex } from './blob-index.ts'
import { parseIndexFile } from './index-file.ts'
import type { SealedFiles } from './sealed-files.ts'

/** Index files read at once. */
const LANES = 3

/** Numbers of packs in the index, the end left out. */
export type PackRange = { readonly from: number; readonly to: number }

/** The index of a repository in memory: loaded at first use, brought up to date on demand. */
export class IndexStore {
  readonly #files: SealedFiles
  readonly #log: Log
  #index: BlobIndex | undefined
  #loaded = new Set<string>()
  #packs = new Map<string, PackRange>()
  #turn: Promise<unknown> = Promise.resolve()
  /** Writers at work: blobs they put into the index are not in any file yet, so it must not be replaced. */
  #writers = 0

  constructor(files: SealedFiles, log: Log) {
    this.#files = files
    this.#log = log
  }

  /** The index, loaded if it was not yet. */
  async current(options?: Abortable): Promise<BlobIndex> {
    return this.#index ?? (await this.refresh(options))
  }

  /**
   * Reads index files that are new; starts anew when some have gone (a prune). INTEGRITY naming a file that cannot be read; CONFLICT when
   * files have gone although our own writers hold locks.
   */
  refresh(options?: Abortable): Promise<BlobIndex> {
    const turn = this.#turn.then(() => this.#refresh(options))
    // A failure is the caller's; the next in turn tries again.
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  writerBegins(): void {
    this.#writers++
  }

  /** `sound`: everything in the index is stored and in index files. Otherwise it is read anew at the next use. */
  writerEnds(sound: boolean): void {
    this.#writers--
    if (!sound && this.#writers === 0) this.#forget()
  }

  /** The files that the index was read from, each with its packs. Not those of a writer of this process. */
  get files(): ReadonlyMap<string, PackRange> {
    return this.#packs
  }

  /** An index file of our own: its blobs are known. */
  note(name: string): void {
    this.#loaded.add(name)
  }

  #forget(): void {
    this.#index = undefined
    this.#loaded = new Set()
    this.#packs = new Map()
  }

  async #refresh(options?: Abortable): Promise<BlobIndex> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#load(options)
      } catch (error) {
        // A file of the list was gone when it was read: an index was just rewritten.
        if (!isAgentError(error, 'NOT_FOUND') || attempt === 3) throw error
      }
    }
  }

  async #load(options?: Abortable): Promise<BlobIndex> {
    const names: string[] = []
    const present = new Set<string>()
    for await (const { name } of this.#files.backend.list('index', options)) {
      present.add(name)
      if (!this.#loaded.has(name)) names.push(name)
    }
    if ([...this.#loaded].some((name) => !present.has(name))) {
      if (this.#writers > 0) {
        throw new AgentError('CONFLICT', `Index files of the repository ${this.#files.backend.url} were removed while it is written to.`, {
          next: 'Never run "restic prune" after "restic unlock --remove-all" while a backup runs; run the backup again.',
        })
      }
      this.#forget()
      return await this.#load(options)
    }
    const index = this.#index ?? new BlobIndex()
    const lane = async (): Promise<void> => {
      for (let name = names.pop(); name !== undefined; name = names.pop()) {
        await this.#read(name, index, options)
        this.#loaded.add(name)
      }
    }
    try {
      await Promise.all(Array.from({ length: LANES }, lane))
    } catch (error) {
      if (this.#index === undefined) this.#loaded = new Set()
      throw error
    }
    this.#index = index
    return index
  }

  async #read(name: string, index: BlobIndex, options?: Abortable): Promise<void> {
    try {
      const json = await this.#files.load({ kind: 'index', name }, options)
      const from = index.packCount
      parseIndexFile(json, name, (id, blobs) => {
        const pack = index.addPack(id)
        for (let number = 0; number < blobs.count; number++) index.add(blobs.id(number), blobs.place(number), pack)
      })
      // Parsed in one go, so that its packs have numbers in a row.
      this.#packs.set(name, { from, to: index.packCount })
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
