import type { HeldLock } from './file-lock.ts'

type Hold = { readonly holder: string; readonly mode: 'shared' | 'exclusive' }

/**
 * Locks on files that no running VM explains: disks open over NFC and downloads under way. Kept in memory only, so that a lab that was killed
 * comes up without them, as a host does.
 */
export class FileHolds {
  readonly #held = new Map<string, Set<Hold>>()
  readonly #downloads = new Map<string, number>()

  /** Holds all of the paths until disposed; readers `shared`, a writer `exclusive`. The caller has looked for conflicts. */
  take(paths: Iterable<string>, holder: string, mode: 'shared' | 'exclusive'): Disposable {
    const hold: Hold = { holder, mode }
    const taken = [...paths]
    for (const path of taken) this.#held.set(path, (this.#held.get(path) ?? new Set<Hold>()).add(hold))
    return {
      [Symbol.dispose]: () => {
        for (const path of taken) {
          const holds = this.#held.get(path)
          holds?.delete(hold)
          if (holds?.size === 0) this.#held.delete(path)
        }
      },
    }
  }

  /** A download of this file, until disposed. */
  download(path: string): Disposable {
    this.#downloads.set(path, (this.#downloads.get(path) ?? 0) + 1)
    let open = true
    return {
      [Symbol.dispose]: () => {
        if (!open) return
        open = false
        const left = (this.#downloads.get(path) ?? 1) - 1
        if (left === 0) this.#downloads.delete(path)
        else this.#downloads.set(path, left)
      },
    }
  }

  isDownloaded(path: string): boolean {
    return this.#downloads.has(path)
  }

  /** The strongest hold on a file. */
  of(path: string): HeldLock | undefined {
    const holds = [...(this.#held.get(path) ?? [])]
    const found = holds.find((hold) => hold.mode === 'exclusive') ?? holds[0]
    return found === undefined ? undefined : { path, ...found }
  }

  list(): HeldLock[] {
    return [...this.#held.keys()].flatMap((path) => this.of(path) ?? [])
  }
}
