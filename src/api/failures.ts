import { isIPv6 } from 'node:net'
import type { Clock } from '../core/index.ts'

/** After so many refused calls from one address within the time, the rest of the time nothing of it is looked at. */
const MOST = 10
const WITHIN_MS = 60_000
/** Addresses that are remembered; of more, the oldest is forgotten. */
const MOST_ADDRESSES = 10_000

type Counted = { readonly since: number; failed: number }

/** How often each address was refused: who guesses tokens is slowed down to ten a minute. In memory, bounded. */
export class Failures {
  readonly #clock: Clock
  readonly #counted = new Map<string, Counted>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** How long nothing of this address is looked at, ms; 0 = it is. */
  waitMs(address: string): number {
    const counted = this.#current(networkOf(address))
    if (counted === undefined || counted.failed < MOST) return 0
    return counted.since + WITHIN_MS - this.#clock.monotonicMs()
  }

  add(address: string): void {
    const key = networkOf(address)
    const counted = this.#current(key)
    if (counted !== undefined) {
      counted.failed++
      return
    }
    this.#counted.delete(key)
    const [oldest] = this.#counted.keys()
    if (this.#counted.size >= MOST_ADDRESSES && oldest !== undefined) this.#counted.delete(oldest)
    this.#counted.set(key, { since: this.#clock.monotonicMs(), failed: 1 })
  }

  #current(key: string): Counted | undefined {
    const counted = this.#counted.get(key)
    return counted !== undefined && this.#clock.monotonicMs() - counted.since < WITHIN_MS ? counted : undefined
  }
}

/** Of an IPv6 address its /64, which one machine has whole. */
function networkOf(address: string): string {
  if (!isIPv6(address) || address.startsWith('::ffff:')) return address
  const [head = '', tail = ''] = address.replace(/%.*$/, '').split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === '' ? [] : tail.split(':')
  const zeros = address.includes('::') ? Array.from({ length: Math.max(0, 8 - before.length - after.length) }, () => '0') : []
  return [...before, ...zeros, ...after].slice(0, 4).join(':')
}
