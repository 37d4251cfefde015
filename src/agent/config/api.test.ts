import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { apiKeys, apiOf } from './api.ts'

const read = (text?: string) => readSection(apiKeys, (file, given) => apiOf(file, given, { stateDirectory: '/var/lib/vcb' }), text).api

test('by default there is a socket in the state directory and nothing else', () => {
  expect(read()).toEqual({ socket: { path: '/var/lib/vcb/agent.sock', group: undefined }, tcp: undefined })
})

test('paths are relative to the file, and the address is read', () => {
  expect(
    read('api: { socket: /run/vcb/agent.sock, group: backup, listen: "[::1]:8443", tls: { certificate: a.pem, key: a.key } }'),
  ).toEqual({
    socket: { path: '/run/vcb/agent.sock', group: 'backup' },
    tcp: { host: '::1', port: 8443, tls: { certificate: '/etc/vcb/a.pem', key: '/etc/vcb/a.key' } },
  })
  expect(read('api: { socket: false, listen: "proxy.example:1", tls: { certificate: a, key: b } }')).toMatchObject({
    socket: undefined,
    tcp: { host: 'proxy.example', port: 1 },
  })
})

test('TCP is not opened without TLS', () => {
  expect(() => read('api: { listen: "0.0.0.0:8443" }')).toThrow('is opened with TLS only')
  expect(() => read('api: { listen: "8443", tls: { certificate: a, key: b } }')).toThrow('HOST:PORT')
})
