import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseStageAnswer } from './stage-answer.ts'

const parse = (text: string, cut = false) => parseStageAnswer(Buffer.from(text), cut)

test('an answer', () => {
  expect(parse('\n {"version":1,"reason":"busy","warnings":["a","b\\u001b[2J"]}\n')).toEqual({
    reason: 'busy',
    warnings: ['a', 'b\\u001b[2J'],
    problem: undefined,
  })
})

test.each(['', 'all is well', '[1]', '"{}"', 'x {"version":1}'])('words for the log: %j', (text) => {
  expect(parse(text)).toEqual({ reason: undefined, warnings: [], problem: undefined })
})

test.each([
  ['{', 'it is no JSON object'],
  ['{"version":1} and more', 'it is no JSON object'],
  ['{"version":2}', /version/],
  ['{"version":1,"skip":true}', /skip/],
  ['{"version":1,"reason":""}', /reason/],
  [`{"version":1,"reason":"${'x'.repeat(1001)}"}`, /reason/],
  [`{"version":1,"warnings":${JSON.stringify(Array.from({ length: 21 }, () => 'x'))}}`, /warnings/],
])('no answer: %s', (text, problem) => {
  expect(parse(text)).toEqual({ reason: undefined, warnings: [], problem: expect.stringMatching(problem) })
})

test('one that was cut off is none, even if what is left could be read', () => {
  expect(parse('{"version":1}', true).problem).toBe('it is longer than 64 KiB')
})

test('whatever is printed: nothing is thrown, what is kept is bounded and moves no cursor', () => {
  const json = fc.record({ version: fc.constantFrom(1, 2, '1'), reason: fc.anything(), warnings: fc.anything() }, { requiredKeys: [] })
  const printed = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.string({ unit: 'binary', maxLength: 200 }).map((text) => Buffer.from(`{${text}`)),
    json.map((value) => Buffer.from(JSON.stringify(value) ?? '')),
    fc
      .record({ version: fc.constant(1), reason: fc.string({ unit: 'binary' }), warnings: fc.array(fc.string({ unit: 'binary' })) })
      .map((value) => Buffer.from(JSON.stringify(value))),
  )
  fc.assert(
    fc.property(printed, fc.boolean(), (output, cut) => {
      const { reason, warnings, problem } = parseStageAnswer(output, cut)
      expect(warnings.length).toBeLessThanOrEqual(20)
      for (const text of [reason ?? '', ...warnings, problem ?? '']) {
        expect(text.length).toBeLessThanOrEqual(6000)
        // oxlint-disable-next-line no-control-regex
        expect(text).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/)
      }
      if (problem !== undefined) expect([reason, warnings]).toEqual([undefined, []])
    }),
    { seed: 6, numRuns: 2000 },
  )
})
