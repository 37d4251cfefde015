import { type Abortable, throwIfAborted } from '../core/index.ts'
import { type Buckets, type BucketUse, type TakeOptions, type Token, type Tokens, waitInWords } from './buckets.ts'

/** Counts what this process takes, and nobody else. */
export function createMemoryBuckets(): Buckets {
  const known = new Map<string, Bucket>()
  return Object.freeze({
    tokens: (key: string, name: string, limit: number): Tokens => {
      const bucket = known.get(key) ?? new Bucket(name, limit)
      known.set(key, bucket)
      return bucket
    },
    inUse: async () => [...known.values()].map((bucket) => bucket.use).filter(({ uses }) => uses.length > 0),
  })
}

/** Tokens of one thing that only this process has. */
export const createTokens = (name: string, limit: number): Tokens => new Bucket(name, limit)

type Waiter = { readonly give: () => void; readonly holder: string }

class Bucket implements Tokens {
  readonly name: string
  readonly limit: number
  readonly #waiting: Waiter[] = []
  readonly #holders = new Map<symbol, string>()
  /** Those on their way to one who waited included. */
  #taken = 0

  constructor(name: string, limit: number) {
    this.name = name
    this.limit = limit
  }

  get use(): BucketUse {
    const uses = [
      ...[...this.#holders.values()].map((holder) => ({ holder, waits: false })),
      ...this.#waiting.map(({ holder }) => ({ holder, waits: true })),
    ]
    return { name: this.name, limit: this.limit, uses }
  }

  async take(options?: TakeOptions): Promise<Token> {
    throwIfAborted(options)
    const waited = this.#taken >= this.limit
    if (waited) {
      using _told = options?.onWait?.(waitInWords(this, [...this.#holders.values()]))
      await this.#wait(options)
    } else this.#taken++
    return this.#token(options?.holder, waited)
  }

  async tryTake(holder?: string): Promise<Token | undefined> {
    if (this.#taken >= this.limit) return undefined
    this.#taken++
    return this.#token(holder, false)
  }

  #token(holder = '', waited: boolean): Token {
    const token = Symbol(this.name)
    this.#holders.set(token, holder)
    return {
      waited,
      [Symbol.asyncDispose]: async () => {
        if (this.#holders.delete(token)) this.#giveBack()
      },
    }
  }

  #wait(options?: Abortable & { readonly holder?: string | undefined }): Promise<void> {
    return new Promise((resolve, reject) => {
      const { signal, holder = '' } = options ?? {}
      const waiter: Waiter = {
        holder,
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
    if (next === undefined) this.#taken--
    else next.give()
  }
}
