import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { degreeOf, isIrreducible, randomPolynomial } from './polynomial.ts'

const multiply = (a: bigint, b: bigint): bigint => {
  let product = 0n
  for (let bit = 0n; b >> bit > 0n; bit++) if ((b >> bit) & 1n) product ^= a << bit
  return product
}

describe('irreducible polynomials over GF(2)', () => {
  it('agree with trial multiplication for every polynomial up to degree 9', () => {
    const reducible = new Set<bigint>()
    for (let a = 2n; a < 512n; a++) for (let b = 2n; b < 512n; b++) reducible.add(multiply(a, b))
    for (let f = 2n; f < 1024n; f++) expect(isIrreducible(f), f.toString(2)).toBe(!reducible.has(f))
  })

  it('knows the polynomial of restic’s documentation and rejects its products', () => {
    expect(isIrreducible(0x25b468838dcb75n)).toBe(true)
    expect(isIrreducible(0x25b468838dcb75n ^ 2n)).toBe(false)
    expect(isIrreducible(multiply(0x25b468838dcb75n, 7n))).toBe(false)
  })

  it('makes different ones of degree 53', () => {
    let counter = 0
    const random = (size: number): Buffer => createHash('sha256').update(String(counter++)).digest().subarray(0, size)
    const made = new Set(Array.from({ length: 5 }, () => randomPolynomial(random)))
    expect(made.size).toBe(5)
    for (const f of made) {
      expect(degreeOf(f)).toBe(53)
      expect(isIrreducible(f)).toBe(true)
    }
  })
})
