import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createIds, formatMark } from '../core/index.ts'
import { parseRestoreMarker, restoreMarker } from './restore-marker.ts'

const ids = createIds()
const mark = { agent: ids.agent(), claim: ids.claim(), job: ids.job(), host: 'proxy1', pid: 7, time: '2026-11-22T21:45:00.000Z' }
const text = formatMark('directory', mark)

describe('the marker of a restore', () => {
  it('reads back as it was written', () => {
    expect(parseRestoreMarker(restoreMarker(text))).toEqual(mark)
  })

  it.each([
    ['nothing', ''],
    ['no JSON', '{"mark":'],
    ['no object', '"x"'],
    ['null', 'null'],
    ['a mark of another kind of thing', JSON.stringify({ mark: formatMark('vm', mark) })],
    ['something beside the mark', `${JSON.stringify({ mark: text, by: 'me' })}\n`],
    ['another layout', JSON.stringify({ mark: text }, null, 2)],
    ['a mark twice', `{"mark":"x","mark":${JSON.stringify(text)}}\n`],
    ['endless text', `${JSON.stringify({ mark: text })}${' '.repeat(5000)}\n`],
  ])('is not %s', (_what, written) => {
    expect(parseRestoreMarker(Buffer.from(written))).toBeUndefined()
  })

  it('is believed only byte by byte, and rubbish is never an error', () => {
    const whole = Buffer.from(restoreMarker(text))
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.uint8Array({ maxLength: 60 }), (at, byte, rubbish) => {
        expect(parseRestoreMarker(rubbish)).toBeUndefined()
        const changed = Buffer.from(whole)
        changed[at] = byte
        const parsed = parseRestoreMarker(changed)
        if (parsed !== undefined) expect(Buffer.from(restoreMarker(formatMark('directory', parsed))).equals(changed)).toBe(true)
      }),
      { seed: 8, numRuns: 2000 },
    )
  })
})
