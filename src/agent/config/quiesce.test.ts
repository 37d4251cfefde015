import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { quiesceKeys, quiesceOf } from './quiesce.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(quiesceKeys, quiesceOf, ...rest)

test('a guest is tried to be quiesced, for two minutes at most', () => {
  expect(read()).toMatchObject({ quiesce: 'try', freezeLimitMs: 120_000 })
})

test('the file, the environment, the flags', () => {
  const text = 'quiesce: none\nfreezeLimit: 1m'
  expect(read(text)).toMatchObject({ quiesce: 'none', freezeLimitMs: 60_000 })
  const environment = { VCB_QUIESCE: 'require', VCB_FREEZE_LIMIT: '30s' }
  expect(read(text, { environment })).toMatchObject({ quiesce: 'require', freezeLimitMs: 30_000 })
  expect(read(text, { environment, flags: { quiesce: 'try', freezeLimit: '90' } })).toMatchObject({ quiesce: 'try', freezeLimitMs: 90_000 })
})

test('what VSS is told is the file’s, with the context of a flag over it', () => {
  expect(read().windowsQuiesce).toBeUndefined()
  const text = 'windowsQuiesce: { context: auto, backupType: copy, bootableSystemState: true }'
  expect(read(text).windowsQuiesce).toEqual({ context: 'auto', backupType: 'copy', bootableSystemState: true })
  expect(read(text, { flags: { windowsQuiesce: 'file-share' } }).windowsQuiesce).toMatchObject({
    context: 'file-share',
    backupType: 'copy',
  })
  expect(() => read('windowsQuiesce: { backupType: other }')).toThrow(/backupType/)
})

test('what is no policy and no time is USAGE', () => {
  expect(() => read('', { flags: { quiesce: 'maybe' } })).toThrow(expect.objectContaining({ code: 'USAGE' }))
  expect(() => read('', { flags: { freezeLimit: '5h' } })).toThrow('The value of --freeze-limit is wrong: "5h" is not a time')
})
