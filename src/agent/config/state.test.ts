import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { stateKeys, stateOf } from './state.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(stateKeys, stateOf, ...rest)

test('paths of the file are relative to it, those of flags to the working directory', () => {
  expect(read('stateDirectory: state\nlog: { file: vcb.log, level: debug }')).toEqual({
    stateDirectory: '/etc/vcb/state',
    sharedState: undefined,
    logFile: '/etc/vcb/vcb.log',
    logLevel: 'debug',
    logBounds: { maxBytes: 10_485_760, files: 10 },
  })
  expect(read('', { flags: { stateDir: '/s', logFile: 'l' }, environment: { VCB_LOG_LEVEL: 'info' } })).toEqual({
    stateDirectory: '/s',
    sharedState: undefined,
    logFile: 'l',
    logLevel: 'info',
    logBounds: { maxBytes: 10_485_760, files: 10 },
  })
  expect(read()).toMatchObject({ logFile: undefined, logLevel: 'warn' })
  expect(read('log: { maxSize: 1MiB, keep: 3 }')).toMatchObject({ logBounds: { maxBytes: 1_048_576, files: 3 } })
  expect(read('log: { maxSize: 0 }')).toMatchObject({ logBounds: undefined })
  expect(() => read('log: { maxSize: 1KiB }')).toThrow(/not an amount from/)
  expect(() => read('', { flags: { logLevel: 'loud' } })).toThrow('The value of --log-level is wrong')
})

test('a database that proxies share has a URL, a password from elsewhere, and an authority', () => {
  const text = 'state: { directory: state, url: "postgres://vcb@db/backup", passwordFile: pw, caFile: ca.pem }'
  expect(read(text)).toMatchObject({
    stateDirectory: '/etc/vcb/state',
    sharedState: {
      address: { host: 'db', port: 5432, user: 'vcb', database: 'backup' },
      password: { file: '/etc/vcb/pw' },
      caFile: '/etc/vcb/ca.pem',
    },
  })
  const environment = { VCB_STATE_URL: 'postgres:///vcb?host=/run/postgresql&user=vcb', VCB_STATE_PASSWORD: 'p' }
  expect(read(text, { environment })).toMatchObject({
    sharedState: { address: { host: '/run/postgresql' }, password: { env: 'VCB_STATE_PASSWORD', value: 'p' } },
  })
  expect(() => read('state: { url: "postgres://vcb:secret@db/backup" }')).toThrow(/holds a password/)
  expect(() => read('state: { url: "postgres://vcb:secret@db/backup" }')).not.toThrow(/secret@/)
  expect(() => read('', { environment: { VCB_STATE_URL: 'sqlite:x' } })).toThrow(/VCB_STATE_URL/)
})
