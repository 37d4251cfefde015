import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentError } from '../core/index.ts'
import { JsonScanner } from './json-scanner.ts'

const accepted = (text: string | Uint8Array): boolean => {
  const scan = new JsonScanner(Buffer.from(text), 'test')
  try {
    scan.skip()
    scan.end()
    return true
  } catch (error) {
    if (error instanceof AgentError && error.code === 'INTEGRITY') return false
    throw error
  }
}
const parsed = (text: string): boolean => {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

describe('JsonScanner', () => {
  it('accepts exactly what JSON.parse accepts: values, and values with a character changed', () => {
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 5 }),
        fc.nat(),
        fc.constantFrom(...'{}[],:"\\0e.-tfn \n'.split('')),
        fc.boolean(),
        (json, at, character, change) => {
          const place = at % (json.length + 1)
          const text = change ? json.slice(0, place) + character + json.slice(place + 1) : json
          expect(accepted(text)).toBe(parsed(text))
        },
      ),
      { numRuns: 3000 },
    )
  })

  it('reads strings, numbers, ids and nulls as they stand', () => {
    const id = 'ab'.repeat(32)
    const scan = new JsonScanner(
      Buffer.from(` { "a\\u0041ü" : [ 0 , 9007199254740991 ] , "i":"${id}","n":null,"x":{"y":[true,-1.5e3]} } `),
      'test',
    )
    scan.beginObject()
    expect(scan.nextKey()).toBe('aAü')
    scan.beginArray()
    expect(scan.nextElement()).toBe(true)
    expect(scan.uint()).toBe(0)
    expect(scan.nextElement()).toBe(true)
    expect(scan.uint()).toBe(Number.MAX_SAFE_INTEGER)
    expect(scan.nextElement()).toBe(false)
    expect(scan.nextKey()).toBe('i')
    const into = new Uint8Array(40)
    scan.id(into, 4)
    expect(Buffer.from(into).toString('hex')).toBe(`00000000${id}00000000`)
    expect(scan.nextKey()).toBe('n')
    expect(scan.null()).toBe(true)
    expect(scan.nextKey()).toBe('x')
    scan.skip()
    expect(scan.nextKey()).toBeUndefined()
    scan.end()
  })

  it('refuses numbers and ids out of form', () => {
    for (const bad of ['-1', '1.5', '1e3', '01', '9007199254740993', '', '"1"']) {
      expect(() => new JsonScanner(Buffer.from(bad), 'test').uint()).toThrow(AgentError)
    }
    for (const bad of ['"ab"', `"${'A'.repeat(64)}"`, `"${'a'.repeat(65)}"`, `"${'a'.repeat(63)}g"`, `"${'a'.repeat(64)}`, 'null']) {
      expect(() => new JsonScanner(Buffer.from(bad), 'test').id(new Uint8Array(32), 0)).toThrow(AgentError)
    }
  })

  it('bounds nesting', () => {
    expect(accepted('['.repeat(64) + ']'.repeat(64))).toBe(true)
    expect(accepted('['.repeat(65) + ']'.repeat(65))).toBe(false)
    expect(accepted('['.repeat(100_000))).toBe(false)
  })
})
