import { availableParallelism, cpus } from 'node:os'
import type { Clock } from '../core/index.ts'

/** How blocks are compressed: a zstd level from -7 to 19, `off` for not at all, or `auto`: as hard as there is processor time left for. */
export type Compression = number | 'auto' | 'off'

/** Levels of `auto`, fast to slow. From the first to the last a server's disk takes a tenth less room, at a third of the speed (docs/performance.md). */
const STEPS = [1, 2, 3, 5] as const
/** So often the choice is looked at, ms: tens of blocks. */
const LOOK_MS = 250
/** Shares of all cores that are busy: below the first there is time for more, above the second none. */
const SPARE = 0.6
const BUSY = 0.85
/** A level is only gone up after so many looks in a row that found time to spare: 2 s. What is short ends before, and the first moments of a backup, when all wait, tell nothing. */
const CALM = 8

export type LevelOptions = {
  readonly clock: Clock
  /** Ticks of all cores so far, of any unit, and what this process used of its own share of them, ms. */
  readonly used?: (() => Used) | undefined
  /** That this process may use: fewer than the machine has in a container. */
  readonly cores?: number | undefined
}

export type Used = { readonly idleTicks: number; readonly allTicks: number; readonly ownMs: number }

function used(): Used {
  let [idleTicks, allTicks] = [0, 0]
  for (const { times } of cpus()) {
    idleTicks += times.idle
    allTicks += times.user + times.nice + times.sys + times.irq + times.idle
  }
  const { user, system } = process.cpuUsage()
  return { idleTicks, allTicks, ownMs: (user + system) / 1000 }
}

/**
 * The level of the next block. With `auto` it is 1 as long as the processor is the limit, and rises step by step while cores of the machine have nothing to do: over
 * a network, where the backup takes no longer by it; a step each two seconds of that, down at once. What others run here counts as well. One object an engine; asked for every block.
 */
export class CompressionLevel {
  readonly #fixed: number | undefined
  readonly #clock: Clock
  readonly #used: () => Used
  readonly #cores: number
  #step = 0
  /** Looks in a row that found time to spare. */
  #calm = 0
  /** The last look; none before the first block. */
  #since: { readonly ms: number; readonly used: Used } | undefined

  constructor(compression: Compression, { clock, used: read = used, cores = availableParallelism() }: LevelOptions) {
    this.#fixed = compression === 'auto' ? undefined : compression === 'off' ? 0 : compression
    this.#clock = clock
    this.#used = read
    this.#cores = cores
  }

  /** zstd's level; 0: store it as it is. */
  now(): number {
    if (this.#fixed !== undefined) return this.#fixed
    const ms = this.#clock.monotonicMs()
    this.#since ??= { ms, used: this.#used() }
    const elapsed = ms - this.#since.ms
    if (elapsed >= LOOK_MS) {
      const used = this.#used()
      this.#step = this.#next(busyShare(this.#since.used, used, elapsed, this.#cores))
      this.#since = { ms, used }
    }
    return STEPS[this.#step] ?? 1
  }

  /** The step after a look: up only when it has been calm for long, down at once. */
  #next(busy: number): number {
    this.#calm = busy < SPARE ? this.#calm + 1 : 0
    if (busy > BUSY) return Math.max(this.#step - 1, 0)
    if (this.#calm < CALM) return this.#step
    this.#calm = 0
    return Math.min(this.#step + 1, STEPS.length - 1)
  }
}

/** The larger share: of the machine's cores by everybody, or of ours by us, where a container has fewer than the machine. */
function busyShare(before: Used, now: Used, elapsed: number, cores: number): number {
  const ticks = now.allTicks - before.allTicks
  const everybody = ticks > 0 ? 1 - (now.idleTicks - before.idleTicks) / ticks : 1
  return Math.max(everybody, (now.ownMs - before.ownMs) / elapsed / cores)
}

/** Of what is compressed on the main thread, trees and small files, also when blocks are not, as restic does. */
export const treeLevel = (compression: Compression): number => (typeof compression === 'number' ? compression : 1)

/** Level 1 with a table of twice its own size takes next to no longer on disk images and comes to nearly one per cent less; larger ones leave a core's second cache (docs/performance.md). Undefined: the level's own. */
export const hashLogOf = (level: number): number | undefined => (level === 1 ? 15 : undefined)
