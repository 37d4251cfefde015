import { type Abortable, throwIfAborted } from '../core/index.ts'

/** A limited number of something shared: NFC sessions of a host, connections through a vCenter. Tokens are given out in the order asked for. */
export interface Tokens {
  readonly name: string
  readonly limit: number
  readonly inUse: number
  /** Callers waiting now. */
  readonly waiting: number
  /** One token, waiting for it; disposing it gives it back. CANCELED while waiting. */
  take(options?: Abortable): Promise<Disposable>
  /** One token if one is free now and nobody waits for it. */
  tryTake(): Disposable | undefined
}

export function createTokens(name: string, limit: number): Tokens {
  return new Bucket(name, limit)
}

type Waiter = { readonly give: () => void }

class Bucket implements Tokens {
  readonly name: string
  readonly limit: number
  readonly #waiting: Waiter[] = []
  #inUse = 0

  constructor(name: string, limit: number) {
    this.name = name
    this.limit = limit
  }

  get inUse(): number {
    return this.#inUse
  }

  get waiting(): number {
    return this.#waiting.length
  }

  async take(options?: Abortable): Promise<Disposable> {
    throwIfAborted(options)
    if (this.#inUse < this.limit) this.#inUse++
    else await this.#wait(options)
    return this.#token()
  }

  tryTake(): Disposable | undefined {
    if (this.#inUse >= this.limit) return undefined
    this.#inUse++
    return this.#token()
  }

  #token(): Disposable {
    let given = true
    return {
      [Symbol.dispose]: () => {
        if (given) this.#giveBack()
        given = false
      },
    }
  }

  #wait(options?: Abortable): Promise<void> {
    return new Promise((resolve, reject) => {
      const { signal } = options ?? {}
      const waiter: Waiter = {
        give: () => {
          signal?.removeEventListener('abort', leave)
          resolve()
        },
      }
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1)
        try {
          throwIfAborted(options)
        } catch (error) {
          reject(error)
        }
      }
      signal?.addEventListener('abort', leave, { once: true })
      this.#waiting.push(waiter)
    })
  }

  /** The token goes to the first who waits, without becoming free in between. */
  #giveBack(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#inUse--
    else next.give()
  }
}
