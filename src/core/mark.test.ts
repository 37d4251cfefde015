import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { systemClock } from './clock.ts'
import { type AgentId, type ClaimId, createIds, type JobId } from './ids.ts'
import { createMarks, formatMark, type Mark, type MarkedThing, markHost, parseMark } from './mark.ts'

const THINGS = ['snapshot', 'vm', 'directory', 'disk'] as const
const hex = (length: number): fc.Arbitrary<string> =>
  fc.array(fc.constantFrom(...'0123456789abcdef'.split('')), { minLength: length, maxLength: length }).map((parts) => parts.join(''))
const mark: fc.Arbitrary<Mark> = fc.record({
  agent: hex(24).map((id) => id as AgentId),
  claim: hex(24).map((id) => id as ClaimId),
  job: hex(24).map((id) => id as JobId),
  host: fc.string().map(markHost),
  pid: fc.integer({ min: 1, max: 4_194_304 }),
  time: fc.date({ min: new Date('2006-01-01'), max: new Date('2199-01-01'), noInvalidDate: true }).map((date) => date.toISOString()),
})
const thing: fc.Arbitrary<MarkedThing> = fc.constantFrom(...THINGS)

describe('a mark', () => {
  it('reads back as it was written, on one line, for the kind of thing it is on and no other', () => {
    fc.assert(
      fc.property(mark, thing, (one, on) => {
        const text = formatMark(on, one)
        expect(text).not.toMatch(/[\r\n]/)
        for (const other of THINGS) expect(parseMark(other, text)).toEqual(other === on ? one : undefined)
      }),
      { seed: 3, numRuns: 500 },
    )
  })

  it('is nothing that a character was added to, taken from or changed in', () => {
    fc.assert(
      fc.property(mark, thing, fc.nat(), fc.string({ minLength: 0, maxLength: 2 }), (one, on, at, put) => {
        const text = formatMark(on, one)
        const place = at % (text.length + 1)
        for (const changed of [text.slice(0, place) + put + text.slice(place), text.slice(0, place) + put + text.slice(place + 1)]) {
          const parsed = parseMark(on, changed)
          // A changed digit may make another valid mark, but then it says exactly what is written there.
          if (parsed !== undefined) expect(formatMark(on, parsed)).toBe(changed)
        }
      }),
      { seed: 5, numRuns: 3000 },
    )
  })

  it('never throws on what strangers wrote, and believes only what it would write itself', () => {
    const pieces = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.constantFrom('vcb-proxy/1 ', 'agent=', ' claim=', ' job=', ' host=', ' pid=', ' time=', '\n', 'Made by vcb-proxy for a backup; '),
      hex(24),
    )
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 40 }), thing, (parts, on) => {
        const text = parts.join('')
        const parsed = parseMark(on, text)
        if (parsed !== undefined) expect(formatMark(on, parsed)).toBe(text)
      }),
      { seed: 7, numRuns: 3000 },
    )
  })

  const ids = createIds(() => Buffer.alloc(12, 0xab))
  const text = formatMark('vm', {
    agent: ids.agent(),
    claim: ids.claim(),
    job: ids.job(),
    host: 'proxy1',
    pid: 7,
    time: '2026-11-22T21:45:00.000Z',
  })

  it.each([
    ['quoted in a longer note', `Copied from: ${text}`],
    ['with something behind it', `${text} and more`],
    ['with a line break', `${text}\n`],
    ['of another version', text.replace('vcb-proxy/1', 'vcb-proxy/2')],
    ['in capitals', text.replace('abab', 'ABAB')],
    ['with a day that does not exist', text.replace('2026-11-22', '2026-02-31')],
    ['with a pid of 0', text.replace('pid=7', 'pid=0')],
    ['with a host that has a blank', text.replace('proxy1', 'proxy 1')],
    ['with fields in another order', text.replace(/(pid=7) (time=\S+)/, '$2 $1')],
    ['without its sentence', text.slice(text.indexOf('vcb-proxy/1'))],
    ['of endless length', text.replace('proxy1', 'p'.repeat(100_000))],
  ])('%s is not ours', (_what, changed) => {
    expect(changed).not.toBe(text)
    expect(parseMark('vm', text)).toBeDefined()
    expect(parseMark('vm', changed)).toBeUndefined()
  })

  it('is written by the composition root with its host name made safe', () => {
    const marks = createMarks({ agent: ids.agent(), host: 'proxy ünder/test', pid: 12, clock: systemClock })
    expect(parseMark('snapshot', marks.text('snapshot', ids.job(), ids.claim()))).toMatchObject({ host: 'proxy__nder_test', pid: 12 })
  })
})
