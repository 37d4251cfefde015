/**
 * The polynomial over GF(2) that a repository's configuration carries for restic's content-defined chunker. We cut fixed blocks and do
 * not use it, but stock restic refuses a repository whose polynomial is not irreducible, and would chunk badly with a constant one.
 * A polynomial is a BigInt, bit i = coefficient of x^i.
 */

/** Degree restic demands. */
const DEGREE = 53

/** A random irreducible polynomial of degree 53. About one in 27 candidates is. */
export function randomPolynomial(random: (size: number) => Uint8Array): bigint {
  for (;;) {
    const bits = BigInt(`0x${Buffer.from(random(7)).toString('hex')}`) & ((1n << BigInt(DEGREE)) - 1n)
    const candidate = bits | (1n << BigInt(DEGREE)) | 1n
    if (isIrreducible(candidate)) return candidate
  }
}

/** Ben-Or's test: f of degree n is irreducible when gcd(f, x^(2^i) - x mod f) = 1 for every i up to n/2. */
export function isIrreducible(f: bigint): boolean {
  const degree = degreeOf(f)
  if (degree < 1) return false
  let power = 2n
  for (let i = 1; i <= degree >> 1; i++) {
    power = remainder(square(power), f)
    if (greatestCommonDivisor(f, power ^ 2n) !== 1n) return false
  }
  return true
}

export const degreeOf = (f: bigint): number => (f === 0n ? -1 : f.toString(2).length - 1)

/** Squaring over GF(2) spreads the bits: bit i goes to bit 2i. */
function square(f: bigint): bigint {
  return BigInt(`0b${f.toString(2).split('').join('0')}`)
}

function remainder(dividend: bigint, divisor: bigint): bigint {
  const degree = degreeOf(divisor)
  let rest = dividend
  for (let over = degreeOf(rest) - degree; over >= 0; over = degreeOf(rest) - degree) rest ^= divisor << BigInt(over)
  return rest
}

function greatestCommonDivisor(a: bigint, b: bigint): bigint {
  let [high, low] = [a, b]
  while (low !== 0n) [high, low] = [low, remainder(high, low)]
  return high
}
