import { AgentError } from '../core/index.ts'

/** A pack buffer, and how much of it is filled, bytes. */
export type FilledPack = { readonly buffer: number; readonly length: number }

type Waiting = { readonly pack: FilledPack; readonly resolve: (id: Uint8Array) => void; readonly reject: (error: unknown) => void }

/**
 * Digests of packs, their names: two at a time, which takes little longer than one (see `BlockDigests`). The first of two waits for the second, until somebody calls `go`: whoever
 * needs its memory or waits for its end. One object a `PackWriter`.
 */
export class PackDigests {
  readonly #digest: (packs: readonly FilledPack[]) => Promise<readonly Uint8Array[]>
  #waiting: Waiting | undefined

  constructor(digest: (packs: readonly FilledPack[]) => Promise<readonly Uint8Array[]>) {
    this.#digest = digest
  }

  /** SHA-256 of a pack. Its memory must not change until then. Errors: those of the digest. */
  of(pack: FilledPack): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const mine = { pack, resolve, reject }
      const other = this.#waiting
      this.#waiting = other === undefined ? mine : undefined
      if (other !== undefined) void this.#run([other, mine])
    })
  }

  /** Does not let the one that waits wait any longer. */
  go(): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    if (waiting !== undefined) void this.#run([waiting])
  }

  async #run(all: readonly Waiting[]): Promise<void> {
    try {
      const ids = await this.#digest(all.map(({ pack }) => pack))
      for (const [index, { resolve }] of all.entries()) {
        const id = ids[index]
        if (id === undefined) throw new AgentError('INTERNAL', `${ids.length} digests were made of ${all.length} packs.`)
        resolve(id)
      }
    } catch (error) {
      for (const { reject } of all) reject(error)
    }
  }
}
