import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { naaOfPage83, uuidDigits, uuidWays } from './disk-uuid.ts'

const UUID = '6000C299-0a1b-2c3d-4e5f-60718293a4b5'
const NAA = '6000c2990a1b2c3d4e5f60718293a4b5'

describe('the uuid of a disk', () => {
  test('is the same however it is written', () => {
    expect(uuidDigits(UUID)).toBe(NAA)
    expect(uuidDigits('60 00 C2 99 0a 1b 2c 3d-4e 5f 60 71 82 93 a4 b5')).toBe(NAA)
    expect([undefined, '', 'none', NAA.slice(1), `${NAA}0`].map(uuidDigits)).toEqual(Array(5).fill(undefined))
  })

  test('of a machine is looked for in both orders of its first three groups', () => {
    expect(uuidWays('8AC43342-7478-0792-A5F1-0123456789AB')).toEqual([
      '8ac43342-7478-0792-a5f1-0123456789ab',
      '4233c48a-7874-9207-a5f1-0123456789ab',
    ])
    expect(uuidWays('11111111-2222-3333-4444-555555555555')).toEqual(['11111111-2222-3333-4444-555555555555'])
    expect(uuidWays('Not Settable')).toEqual([])
  })
})

/** One designation descriptor: code set, kind with association, its bytes. */
const designator = (association: number, kind: number, bytes: Buffer, codeSet = 1): Buffer =>
  Buffer.concat([Buffer.from([codeSet, (association << 4) | kind, 0, bytes.length]), bytes])
const page = (...parts: Buffer[]): Buffer => {
  const body = Buffer.concat(parts)
  const head = Buffer.from([0, 0x83, 0, 0])
  head.writeUInt16BE(body.length, 2)
  return Buffer.concat([head, body])
}

describe('VPD page 83h', () => {
  const naa = designator(0, 3, Buffer.from(NAA, 'hex'))

  test('gives the NAA id of the disk itself, wherever it stands', () => {
    expect(naaOfPage83(page(naa))).toBe(NAA)
    expect(naaOfPage83(page(designator(0, 1, Buffer.from('VMware  Virtual disk'), 2), naa))).toBe(NAA)
  })

  test('gives none of a port or a target, none of another length, and none where there is none', () => {
    expect(naaOfPage83(page(designator(1, 3, Buffer.from(NAA, 'hex')), designator(2, 3, Buffer.from(NAA, 'hex'))))).toBeUndefined()
    expect(naaOfPage83(page(designator(0, 3, Buffer.from(NAA.slice(0, 16), 'hex'))))).toBeUndefined()
    expect(naaOfPage83(page())).toBeUndefined()
  })

  test('that is another page, cut short or longer than it says gives none', () => {
    const other = page(naa)
    other[1] = 0x80
    expect(naaOfPage83(other)).toBeUndefined()
    expect(naaOfPage83(page(naa).subarray(0, 20))).toBeUndefined()
    const long = page(naa)
    long[7] = 200
    expect(naaOfPage83(long)).toBeUndefined()
    expect(naaOfPage83(Buffer.concat([page(), naa]))).toBeUndefined()
  })

  test('of any bytes ends, with 32 digits or nothing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, headed) => {
        const found = naaOfPage83(headed ? page(Buffer.from(bytes)) : bytes)
        expect(found ?? NAA).toMatch(/^[0-9a-f]{32}$/)
      }),
      { numRuns: 500 },
    )
  })
})
