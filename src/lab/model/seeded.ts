import { hash } from 'node:crypto'

/** Repeatable stand-ins for random values: the same seed and words give the same result on every machine. */
export type Seeded = {
  /** A version 4 UUID. */
  uuid(...words: readonly (string | number)[]): string
  /** `00:50:56:…`, in the range VMware gives out. */
  mac(...words: readonly (string | number)[]): string
  /** `count` lower-case hex digits. */
  hex(count: number, ...words: readonly (string | number)[]): string
  /** A number in [0, 1) that moves on at each call. */
  next(): number
}

export function createSeeded(seed: number): Seeded {
  let state = seed >>> 0
  const digest = (words: readonly (string | number)[]): string => hash('sha256', `${seed}\0${words.join('\0')}`)
  return Object.freeze({
    uuid: (...words) => {
      const hex = digest(words)
      const variant = ((Number.parseInt(hex[16] ?? '0', 16) & 3) | 8).toString(16)
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`
    },
    mac: (...words) => {
      const hex = digest(words)
      const third = (Number.parseInt(hex.slice(0, 2), 16) & 0x3f).toString(16).padStart(2, '0')
      return `00:50:56:${third}:${hex.slice(2, 4)}:${hex.slice(4, 6)}`
    },
    hex: (count, ...words) => digest(words).slice(0, count),
    next: () => {
      // A 32-bit mixing generator; quality is irrelevant, repeatability is the point.
      state = (state + 0x6d2b79f5) >>> 0
      let mixed = Math.imul(state ^ (state >>> 15), state | 1)
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
    },
  } satisfies Seeded)
}
