import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { type Ciphers, stableCiphers } from './ciphers.ts'
import { ffiCtr } from './ctr-cipher.ts'
import { ffiMac, sodiumMac } from './one-time-mac.ts'
import { seal, sealInPlace, sealKeyFrom, tryUnseal, unseal } from './sealing.ts'

const ctr = ffiCtr()
const mac = ffiMac()
const ffi = ctr === undefined || mac === undefined ? undefined : { ctr, mac }
const ciphers: [string, Ciphers | undefined][] = [
  ['node:crypto and libsodium', stableCiphers],
  ['node:ffi', ffi],
]

describe.each(ciphers)('sealing with %s', (_name, by) => {
  it.skipIf(by === undefined)('opens what was sealed, in place and copied, of every length', () => {
    const key = sealKeyFrom(randomBytes(64))
    for (const length of [0, 1, 15, 16, 17, 4096, 1_000_003]) {
      const plain = randomBytes(length)
      const iv = randomBytes(16)
      const region = Buffer.from(new SharedArrayBuffer(length + 100))
      region.set(plain, 16)
      const sealed = sealInPlace(key, iv, region, length, by)
      expect(sealed).toHaveLength(length + 32)
      expect(Buffer.compare(sealed, seal(key, iv, plain))).toBe(0)
      expect(Buffer.compare(unseal(key, sealed, 'x', by), plain)).toBe(0)
      expect(Buffer.compare(unseal(key, sealed, 'x'), plain)).toBe(0)
    }
  })

  it.skipIf(by === undefined)('refuses a changed bit anywhere, another key, and what is too short', () => {
    const key = sealKeyFrom(randomBytes(64))
    const sealed = seal(key, randomBytes(16), randomBytes(100))
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed)
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8))
      expect(tryUnseal(key, changed, by)).toBeUndefined()
    }
    expect(tryUnseal(sealKeyFrom(randomBytes(64)), sealed, by)).toBeUndefined()
    expect(tryUnseal(key, sealed.subarray(0, 31), by)).toBeUndefined()
    expect(() => unseal(key, sealed.subarray(1), 'pack abc', by)).toThrow('The pack abc is damaged')
  })
})

it('runs the fast way on the Node that the product is tested with', () => {
  if (Number(process.versions.node.split('.')[0]) >= 26) expect(ffi).toBeDefined()
})

describe('Poly1305', () => {
  // RFC 8439, section 2.5.2.
  const key = Buffer.from('85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b', 'hex')
  const text = Buffer.from('Cryptographic Forum Research Group')

  it.each([
    ['libsodium', sodiumMac],
    ['node:ffi', mac],
  ])('of %s is that of the RFC', (_name, by) => {
    if (by === undefined) return
    const tag = Buffer.alloc(16)
    by(key, text, tag)
    expect(tag.toString('hex')).toBe('a8061dc1305136c6c22b8baf0c0127a9')
  })

  it.skipIf(mac === undefined)('is the same by both, of every length, also in shared memory', () => {
    for (const length of [0, 1, 15, 16, 17, 63, 64, 255, 256, 1000, 65_537]) {
      const bytes = Buffer.from(new SharedArrayBuffer(length + 3), 3)
      bytes.set(randomBytes(length))
      const oneTime = randomBytes(32)
      const [one, other] = [Buffer.alloc(16), Buffer.alloc(16)]
      sodiumMac(oneTime, bytes, one)
      mac?.(oneTime, bytes, other)
      expect(other.equals(one)).toBe(true)
    }
  })
})
