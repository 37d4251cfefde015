import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { runsKeys, runsOf } from './runs.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(runsKeys, runsOf, ...rest)

test('how a run goes about its work has defaults', () => {
  expect(read()).toEqual({ parallel: 2, compression: 'auto', changeTracking: true, releaseForMs: 900_000, cancelDeadlineMs: 600_000 })
})

test('the file, the environment, the flags', () => {
  const text = 'parallel: 4\nchangeTracking: false\nreleaseFor: 1m\ncancelDeadline: 0'
  expect(read(text)).toEqual({ parallel: 4, compression: 'auto', changeTracking: false, releaseForMs: 60_000, cancelDeadlineMs: 0 })
  const over = { flags: { parallel: '8', cancelDeadline: '2s' }, environment: { VCB_RELEASE_FOR: '1h' } }
  expect(read(text, over)).toMatchObject({ parallel: 8, releaseForMs: 3_600_000, cancelDeadlineMs: 2000 })
  expect(read('compression: better')).toMatchObject({ compression: 3 })
  expect(read('compression: 7', { flags: { compression: 'off' } })).toMatchObject({ compression: 'off' })
  for (const text of ['0', '20', 'hard', '']) {
    expect(() => read('', { flags: { compression: text } })).toThrow(expect.objectContaining({ code: 'USAGE' }))
  }
  expect(() => read('', { flags: { parallel: '0' } })).toThrow(expect.objectContaining({ code: 'USAGE' }))
})
