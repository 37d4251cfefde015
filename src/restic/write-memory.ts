import type { AgentError } from '../core/index.ts'
import type { Backend } from './backend.ts'
import type { Compression } from './compression.ts'
import { packBuffers, TreeMemory } from './pack-memory.ts'
import { SealPool } from './seal-pool.ts'
import { slotBytes } from './seal-tasks.ts'
import type { SealThreads } from './seal-threads.ts'

export type WriteSettings = {
  readonly workers: number
  readonly blockSize: number
  readonly compression: Compression
  readonly packSize: number
  readonly codec: 'auto' | 'zlib'
}

/**
 * What the engines of one repository write in, one engine after the other: slots and the memory of packs, 50 MiB and more. An agent ends an engine with every run that
 * overlaps no other, and memory of that size, freed and taken again all the time, is not given back by the C library (500 VMs: 516 instead of 300 MB resident).
 */
export class WriteMemory implements AsyncDisposable {
  readonly slots: number
  readonly pool: SealPool
  readonly packs: readonly SharedArrayBuffer[]
  readonly trees = new TreeMemory()
  #onFailure: (error: AgentError) => void = () => undefined

  constructor(backend: Backend, threads: SealThreads, { workers, blockSize, packSize }: WriteSettings) {
    this.slots = Math.max(8, workers * 4)
    const slots = Array.from({ length: this.slots }, () => new SharedArrayBuffer(slotBytes(blockSize)))
    this.packs = Array.from({ length: packBuffers(backend) }, () => new SharedArrayBuffer(packSize))
    this.pool = new SealPool(threads.start(), { slots, packs: this.packs, blockSize }, (error) => this.#onFailure(error))
  }

  /** The engine that uses it from now on learns of a thread that dies. */
  use(onFailure: (error: AgentError) => void): void {
    this.#onFailure = onFailure
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.pool[Symbol.asyncDispose]()
  }
}
