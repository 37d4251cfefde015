import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { guestScriptsKeys, guestScriptsOf } from './guest-scripts.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) =>
  readSection(guestScriptsKeys, guestScriptsOf, ...rest).guestScripts

test('each entry says which VMs, which scripts and which way', () => {
  const text = `guestScripts:
  - { vms: ["db*", web], preFreeze: /pre, postThaw: /post, user: backup, passwordFile: db.pw }
  - { vms: [mail], via: ssh, preFreeze: 'C:\\\\pre.bat', postThaw: 'C:\\\\post.bat', timeout: 5s, policy: require, ssh: { user: u, keyFile: k } }
`
  const [first, second] = read(text)
  expect(first).toMatchObject({
    name: 'db* web',
    via: 'guest-operations',
    timeoutMs: 60_000,
    policy: undefined,
    password: { file: '/etc/vcb/db.pw' },
  })
  expect(second).toMatchObject({ via: 'ssh', timeoutMs: 5000, policy: 'require' })
  expect(second?.ssh('mail')).toMatchObject({ address: 'mail', user: 'u', keyFile: '/etc/vcb/k' })
})

test.each([
  ['a relative path', 'preFreeze: pre, postThaw: /post, user: u', /absolute path/],
  ['no login', 'preFreeze: /pre, postThaw: /post', /guest operations need user/],
  ['no SSH', 'via: ssh, preFreeze: /pre, postThaw: /post', /ssh needs ssh with user/],
])('%s is refused', (_, entry, message) => {
  expect(() => read(`guestScripts: [{ vms: [a], ${entry} }]`)).toThrow(message)
})
