import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { DEFAULT_TRANSPORTS } from '../../core/index.ts'
import { DEFAULT_REOPEN } from '../../transport/index.ts'
import { transportsKeys, transportsOf } from './transports.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(transportsKeys, transportsOf, ...rest)

test('the order is a list or text, and has a default', () => {
  expect(read().transports).toEqual(DEFAULT_TRANSPORTS)
  expect(read('transports: san:https').transports).toEqual(['san', 'https'])
  expect(read('transports: [lease, nbd, lease]').transports).toEqual(['lease', 'nbd'])
  const over = { flags: { transport: 'https,san' }, environment: { VCB_TRANSPORT: 'nbd' } }
  expect(read('transports: lease', over).transports).toEqual(['https', 'san'])
})

test('restores have an order of their own', () => {
  expect(read().restoreTransports).toEqual(['lease', 'nbdssl', 'https'])
  expect(read('restore: { transports: https }', { flags: { transport: 'san' } }).restoreTransports).toEqual(['https'])
  expect(read('', { environment: { VCB_RESTORE_TRANSPORT: 'nbd' } }).restoreTransports).toEqual(['nbd'])
})

test('each has its settings, with defaults', () => {
  expect(read()).toMatchObject({
    resume: DEFAULT_REOPEN,
    hotadd: { proxy: undefined, sysfs: '/sys', devices: '/dev', appearMs: 120_000 },
    nfc: { compression: 'skipz', sessions: 1 },
  })
  const text =
    'resume: { attempts: 0, delay: 1s }\nhotadd: { proxy: vm-1, sysfs: sys, appear: 1m }\nnfc: { compression: none, sessions: 2 }'
  expect(read(text)).toMatchObject({
    resume: { ...DEFAULT_REOPEN, attempts: 0, delayMs: 1000 },
    hotadd: { proxy: 'vm-1', sysfs: '/etc/vcb/sys', devices: '/dev', appearMs: 60_000 },
    nfc: { compression: 'none', sessions: 2 },
  })
})

test('an unknown one is named', () => {
  expect(() => read('transports: san:pigeon')).toThrow(/pigeon.* is not a transport/)
  expect(() => read('', { flags: { transport: 'pigeon' } })).toThrow('The value of --transport is wrong: "pigeon" is not a transport')
})
