import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { type CtrCipher, ffiCtr, nodeCtr } from './ctr-cipher.ts'
import { seal, sealInPlace, sealKeyFrom, tryUnseal, unseal } from './sealing.ts'

const ffi = ffiCtr()
const ciphers: [string, CtrCipher | undefined][] = [
  ['node:crypto', nodeCtr],
  ['node:ffi', ffi],
]

describe.each(ciphers)('sealing with %s', (_name, ctr) => {
  it.skipIf(ctr === undefined)('opens what was sealed, in place and copied, of every length', () => {
    const key = sealKeyFrom(randomBytes(64))
    for (const length of [0, 1, 15, 16, 17, 4096, 1_000_003]) {
      const plain = randomBytes(length)
      const iv = randomBytes(16)
      const region = Buffer.from(new SharedArrayBuffer(length + 100))
      region.set(plain, 16)
      const sealed = sealInPlace(key, iv, region, length, ctr)
      expect(sealed).toHaveLength(length + 32)
      expect(Buffer.compare(sealed, seal(key, iv, plain))).toBe(0)
      expect(Buffer.compare(unseal(key, sealed, 'x', ctr), plain)).toBe(0)
      expect(Buffer.compare(unseal(key, sealed, 'x'), plain)).toBe(0)
    }
  })

  it.skipIf(ctr === undefined)('refuses a changed bit anywhere, another key, and what is too short', () => {
    const key = sealKeyFrom(randomBytes(64))
    const sealed = seal(key, randomBytes(16), randomBytes(100))
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed)
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8))
      expect(tryUnseal(key, changed, ctr)).toBeUndefined()
    }
    expect(tryUnseal(sealKeyFrom(randomBytes(64)), sealed, ctr)).toBeUndefined()
    expect(tryUnseal(key, sealed.subarray(0, 31), ctr)).toBeUndefined()
    expect(() => unseal(key, sealed.subarray(1), 'pack abc', ctr)).toThrow('The pack abc is damaged')
  })
})

it('runs the fast way on the Node that the product is tested with', () => {
  if (Number(process.versions.node.split('.')[0]) >= 26) expect(ffi).toBeDefined()
})
