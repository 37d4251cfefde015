import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { stateKeys, stateOf } from './state.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(stateKeys, stateOf, ...rest)

test('paths of the file are relative to it, those of flags to the working directory', () => {
  expect(read('stateDirectory: state\nlog: { file: vcb.log, level: debug }')).toEqual({
    stateDirectory: '/etc/vcb/state',
    logFile: '/etc/vcb/vcb.log',
    logLevel: 'debug',
  })
  expect(read('', { flags: { stateDir: '/s', logFile: 'l' }, environment: { VCB_LOG_LEVEL: 'info' } })).toEqual({
    stateDirectory: '/s',
    logFile: 'l',
    logLevel: 'info',
  })
  expect(read()).toMatchObject({ logFile: undefined, logLevel: 'warn' })
  expect(() => read('', { flags: { logLevel: 'loud' } })).toThrow('The value of --log-level is wrong')
})
