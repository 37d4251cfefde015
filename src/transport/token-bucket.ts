import { type Abortable, throwIfAborted } from '../core/index.ts'

/** How one who waits for a token tells of it. */
export type Waiting = {
  /** Called at once when there is none, with what is waited for in words; the answer is disposed when the wait is over, however it ends. */
  readonly onWait?: ((wait: string) => Disposable) | undefined
}

export type TakeOptions = Abortable &
  Waiting & {
    /** Who takes it, for the others who wait: a VM's name. */
    readonly holder?: string | undefined
  }

/** A limited number of something shared: NFC sessions of a host, read streams of a datastore. Tokens are given out in the order asked for. */
export interface Tokens {
  /** What there is a limited number of: `read streams of datastore nfs1`. */
  readonly name: string
  readonly limit: number
  readonly inUse: number
  /** Callers waiting now. */
  readonly waiting: number
  /** One token, waiting for it; disposing it gives it back, once. CANCELED while waiting. */
  take(options?: TakeOptions): Promise<Disposable>
  /** One token if one is free now and nobody waits for it. */
  tryTake(holder?: string): Disposable | undefined
}

export function createTokens(name: string, limit: number): Tokens {
  return new Bucket(name, limit)
}

/** Holders named to one who waits. */
const NAMED = 4

type Waiter = { readonly give: () => void }

class Bucket implements Tokens {
  readonly name: string
  readonly limit: number
  readonly #waiting: Waiter[] = []
  readonly #holders = new Map<symbol, string>()
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

  async take(options?: TakeOptions): Promise<Disposable> {
    throwIfAborted(options)
    if (this.#inUse < this.limit) this.#inUse++
    else {
      using _told = options?.onWait?.(this.#inWords())
      await this.#wait(options)
    }
    return this.#token(options?.holder)
  }

  tryTake(holder?: string): Disposable | undefined {
    if (this.#inUse >= this.limit) return undefined
    this.#inUse++
    return this.#token(holder)
  }

  #token(holder = ''): Disposable {
    const token = Symbol(this.name)
    this.#holders.set(token, holder)
    return {
      [Symbol.dispose]: () => {
        if (this.#holders.delete(token)) this.#giveBack()
      },
    }
  }

  #inWords(): string {
    const names = [...new Set(this.#holders.values())].filter((name) => name !== '')
    const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : ''
    const by = names.length === 0 ? '' : ` by ${names.slice(0, NAMED).join(', ')}${more}`
    return `waits for one of the ${this.name}: ${this.#inUse} of ${this.limit} in use${by}`
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
