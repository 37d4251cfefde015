import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { vcbToolsKeys, vcbToolsOf } from './vcb-tools.ts'

test('a password on the command line is refused unless the file allows it', () => {
  const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) =>
    readSection(vcbToolsKeys, vcbToolsOf, ...rest).vcbTools
  expect(read()).toEqual({ passwordArgument: false, configJs: undefined })
  expect(read('vcbTools: { passwordArgument: true, configJs: config.js }')).toEqual({
    passwordArgument: true,
    configJs: '/etc/vcb/config.js',
  })
  expect(read('vcbTools: { configJs: a }', { environment: { VCB_CONFIG_JS: '/b.js' } }).configJs).toBe('/b.js')
})
