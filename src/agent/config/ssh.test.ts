import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { sshKeys, sshOf } from './ssh.ts'

const KEY = `SHA256:${'a'.repeat(43)}`
const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(sshKeys, sshOf, ...rest).ssh

test('a host takes the login of the default as a whole, or its own', () => {
  const text = `ssh:
  hosts: { esx1: { hostKey: "${KEY}" }, esx2: { address: 10.0.0.2, user: backup, passwordEnv: PW, knownHosts: known } }
  default: { port: 2222, keyFile: id, passphraseFile: "-", knownHosts: /etc/known }
`
  const { hosts, byDefault, snapshots } = read(text, { environment: { PW: 'x' } })
  expect(snapshots).toBe('auto')
  expect(hosts).toMatchObject([
    { name: 'esx1', address: 'esx1', port: 2222, user: 'root', keyFile: '/etc/vcb/id', passphrase: { file: '-' }, fingerprints: [KEY] },
    { address: '10.0.0.2', user: 'backup', keyFile: undefined, password: { env: 'PW', value: 'x' }, knownHosts: '/etc/vcb/known' },
  ])
  expect(byDefault?.('other')).toMatchObject({ address: 'other', knownHosts: '/etc/known', fingerprints: [] })
})

test('without known hosts, no host is tried that is not listed', () => {
  expect(read().byDefault).toBeUndefined()
  expect(() => read('ssh: { hosts: { a: { hostKey: md5 } } }')).toThrow(/a fingerprint is SHA256/)
})
