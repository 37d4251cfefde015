import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { vcbToolsKeys, vcbToolsOf } from './vcb-tools.ts'

test('the VCB commands refuse a password on the command line, and hold mounts for half a day, unless the file says otherwise', () => {
  const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) =>
    readSection(vcbToolsKeys, vcbToolsOf, ...rest).vcbTools
  expect(read()).toEqual({ passwordArgument: false, configJs: undefined, maxHoldMs: 43_200_000, idleMs: 1_800_000, cleanupMounts: false })
  expect(read('vcbTools: { passwordArgument: true, configJs: config.js }')).toMatchObject({
    passwordArgument: true,
    configJs: '/etc/vcb/config.js',
  })
  expect(read('vcbTools: { maxHold: 2h, idle: 0, cleanupMounts: true }')).toMatchObject({
    maxHoldMs: 7_200_000,
    idleMs: 0,
    cleanupMounts: true,
  })
  expect(() => read('vcbTools: { maxHold: 0 }')).toThrow('is not a time')
  expect(read('vcbTools: { configJs: a }', { environment: { VCB_CONFIG_JS: '/b.js' } }).configJs).toBe('/b.js')
})
