/** A small repeatable source of numbers; the seed tells the case. */
export type Dice = { below(limit: number): number; one<T>(of: readonly T[]): T }

export function dice(seed: number): Dice {
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  const below = (limit: number): number => next() % limit
  return {
    below,
    one: (of) => {
      const chosen = of[below(of.length)]
      if (chosen === undefined) throw new Error('nothing to choose from')
      return chosen
    },
  }
}

const NUMBERS = [0, 1, 2, 7, 511, 512, 65_535, 65_536, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff]

/** A message damaged somewhere in its first `head` bytes, cut, doubled, or with something before or behind it. */
export function mutated(bytes: Buffer, head: number, roll: Dice): Buffer {
  const made = Buffer.from(bytes)
  const within = Math.min(head, bytes.length)
  switch (roll.below(7)) {
    case 0: {
      const at = roll.below(within)
      made[at] = (made[at] ?? 0) ^ (1 << roll.below(8))
      return made
    }
    case 1: {
      const at = 4 * roll.below(Math.floor(within / 4))
      made.writeUInt32LE(roll.one(NUMBERS), at)
      return made
    }
    case 2: {
      const at = roll.below(Math.max(1, within - 4))
      made.writeUInt32BE(roll.one(NUMBERS), at)
      return made
    }
    case 3:
      return made.subarray(0, roll.below(bytes.length))
    case 4:
      return Buffer.concat([made, made])
    case 5:
      return Buffer.concat([junk(roll), made])
    default:
      return Buffer.concat([made, junk(roll)])
  }
}

export const junk = (roll: Dice): Buffer => Buffer.from(Array.from({ length: 1 + roll.below(200) }, () => roll.below(256)))

/** Fails when `work` has not ended after so many ms. */
export async function ended<T>(work: Promise<T>, what: string, ms = 10_000): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`${what} hangs`)), ms)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}
