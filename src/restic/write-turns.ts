/** Files that are told apart; more than are ever written at once. */
const WORDS = 64
const FREE = 0
const TAKEN = 1

/** Memory of `WriteTurns`, for all threads that write the same files. */
export const turnsMemory = (): SharedArrayBuffer => new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT)

/**
 * Whose turn it is to write to a file, among the threads of a process. A kernel lets one at a time write to a file, and the others burn their cores until then (Linux: `i_rwsem`, which
 * is spun on as long as its owner runs); who knows that it is not his turn can do something else first. Two descriptors may share a turn, which is harmless.
 */
export class WriteTurns {
  readonly #words: Int32Array

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory)
  }

  /** Takes the turn if nobody has it. */
  tryTake(descriptor: number): boolean {
    return Atomics.compareExchange(this.#words, descriptor % WORDS, FREE, TAKEN) === FREE
  }

  /** Takes the turn, asleep until it is free. Not on a main thread. */
  take(descriptor: number): void {
    while (!this.tryTake(descriptor)) Atomics.wait(this.#words, descriptor % WORDS, TAKEN)
  }

  /** Only by who has it. */
  give(descriptor: number): void {
    Atomics.store(this.#words, descriptor % WORDS, FREE)
    Atomics.notify(this.#words, descriptor % WORDS, 1)
  }
}
