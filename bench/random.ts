import { createCipheriv, createHash } from 'node:crypto'

/** A repeatable source of numbers and bytes: the same seed gives the same image on every machine. */
export type Random = {
  /** A whole number in `[0, below)`. */
  readonly below: (below: number) => number
  /** `length` bytes that no compressor makes smaller. */
  readonly bytes: (length: number) => Buffer
}

export function seededRandom(seed: string): Random {
  const key = createHash('sha256').update(seed).digest()
  const stream = createCipheriv('aes-256-ctr', key, Buffer.alloc(16))
  const bytes = (length: number): Buffer => stream.update(Buffer.alloc(length))
  let pool: Buffer = Buffer.alloc(0)
  return {
    bytes,
    below: (below) => {
      if (pool.length < 6) pool = bytes(6 * 1024)
      const value = pool.readUIntLE(0, 6)
      pool = pool.subarray(6)
      return value % below
    },
  }
}
