import { type Abortable, AgentError, throwIfAborted } from '../core/index.ts'

type Waiter = { readonly take: (slot: number) => void; readonly refuse: (error: unknown) => void }

/** Numbers of free slots and, first come first served, who waits for one. */
export class SlotPool {
  readonly #count: number
  readonly #free: number[]
  readonly #waiters = new Set<Waiter>()
  #failure: AgentError | undefined

  constructor(count: number) {
    this.#count = count
    this.#free = Array.from({ length: count }, (_, slot) => count - 1 - slot)
  }

  /** Whether nobody has or waits for one. */
  get whole(): boolean {
    return this.#free.length === this.#count && this.#waiters.size === 0
  }

  /** Whether one is free. */
  get any(): boolean {
    return this.#free.length > 0
  }

  acquire(options?: Abortable): Promise<number> {
    return new Promise((resolve, reject) => {
      throwIfAborted(options)
      if (this.#failure !== undefined) throw this.#failure
      const slot = this.#waiters.size === 0 ? this.#free.pop() : undefined
      if (slot !== undefined) {
        resolve(slot)
        return
      }
      const aborted = (): void => {
        this.#waiters.delete(waiter)
        try {
          throwIfAborted(options)
        } catch (error) {
          reject(error)
        }
      }
      const waiter: Waiter = {
        take: (given) => {
          options?.signal?.removeEventListener('abort', aborted)
          resolve(given)
        },
        refuse: (error) => {
          options?.signal?.removeEventListener('abort', aborted)
          reject(error)
        },
      }
      options?.signal?.addEventListener('abort', aborted, { once: true })
      this.#waiters.add(waiter)
    })
  }

  release(slot: number): void {
    for (const waiter of this.#waiters) {
      this.#waiters.delete(waiter)
      waiter.take(slot)
      return
    }
    this.#free.push(slot)
  }

  /** Rejects everybody who waits, and whoever comes later. */
  fail(error: AgentError): void {
    this.#failure ??= error
    for (const waiter of this.#waiters) waiter.refuse(this.#failure)
    this.#waiters.clear()
  }
}
