import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { noticesKeys, noticesOf, targetText } from './notices.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(noticesKeys, noticesOf, ...rest)
const one = (text: string) => read(`notices: { it: { ${text} } }`).notices[0]

test('mail, with a login from a file, over STARTTLS unless it says otherwise', () => {
  expect(
    one('mail: { server: "smtp://mail.example.com", from: "Backup <b@example.com>", to: a@example.com, user: u, passwordFile: pw }'),
  ).toEqual({
    name: 'it',
    on: ['failure', 'warning', 'missedRpo'],
    digest: undefined,
    timeZone: Temporal.Now.timeZoneId(),
    gatherMs: 60_000,
    timeoutMs: 30_000,
    caFile: undefined,
    to: {
      kind: 'mail',
      host: 'mail.example.com',
      port: 587,
      security: 'starttls',
      from: 'Backup <b@example.com>',
      to: ['a@example.com'],
      login: { user: 'u', password: { file: '/etc/vcb/pw' } },
    },
  })
  expect(one('mail: { server: "smtps://m", from: a@b, to: [c@d, e@f] }')?.to).toMatchObject({
    port: 465,
    security: 'tls',
    to: ['c@d', 'e@f'],
  })
})

test('a webhook has its address from a file or a variable, and shows where', () => {
  const to = one('webhook: { urlFile: url, secretFile: key }')?.to
  expect(to).toEqual({ kind: 'webhook', url: { file: '/etc/vcb/url' }, key: { file: '/etc/vcb/key' } })
  expect(to === undefined ? '' : targetText(to)).toBe('webhook named in /etc/vcb/url')
  const of = read('notices: { it: { webhook: { urlEnv: CHAT } } }', { environment: { CHAT: 'https://chat.example.com/hooks/T0KEN' } })
    .notices[0]?.to
  expect(of).toMatchObject({ url: { env: 'CHAT', value: 'https://chat.example.com/hooks/T0KEN' }, key: undefined })
  expect(of === undefined ? '' : targetText(of)).toBe('webhook named in the variable CHAT')
})

test.each([
  ['udp://log', { over: 'udp', host: 'log', port: 514 }],
  ['tcp://[::1]:1514', { over: 'tcp', host: '::1', port: 1514 }],
  ['tls://log', { over: 'tls', host: 'log', port: 6514 }],
  ['unix:/dev/log', { over: 'unix', path: '/dev/log' }],
])('syslog at %s', (server, expected) => {
  expect(one(`syslog: { server: "${server}", facility: local3 }`)).toMatchObject({
    gatherMs: 0,
    to: { kind: 'syslog', server: expected, facility: 'local3' },
  })
})

test('a digest has moments in a zone', () => {
  expect(one('digest: "0 7 * * *", timeZone: Europe/Berlin, syslog: { server: "udp://log" }')).toMatchObject({
    on: [],
    digest: { cron: ['0 7 * * *'], timeZone: 'Europe/Berlin' },
  })
})

test.each([
  ['two ways', 'syslog: { server: "udp://l" }, webhook: { urlFile: x }', /one of mail, webhook and syslog/],
  ['no way', 'gather: 1m', /one of mail, webhook and syslog/],
  ['a login in the clear', 'mail: { server: "smtp+plain://m", from: a@b, to: c@d, user: u, passwordFile: f }', /not encrypted/],
  ['a user without a password', 'mail: { server: "smtp://m", from: a@b, to: c@d, user: u }', /belong together/],
  ['a password in the address', 'mail: { server: "smtp://u:s3cret@m", from: a@b, to: c@d }', /smtp:\/\/\*\*\*@m.* is no server/],
  ['a second header', 'mail: { server: "smtp://m", from: "a@b\\r\\nBcc: x@y", to: c@d }', /no mail address/],
  ['nobody', 'mail: { server: "smtp://m", from: a@b, to: [] }', /names nobody/],
  ['another scheme', 'mail: { server: "http://m", from: a@b, to: c@d }', /smtp:\/\//],
  ['a path', 'syslog: { server: "udp://log/x" }', /no server/],
  ['two addresses', 'webhook: { urlEnv: X, urlFile: f }', /one of urlFile and urlEnv/],
  ['an address in the clear', 'webhook: { url: "https://x/T0KEN" }', /urlFile/],
  ['on and digest', 'on: failure, digest: "0 7 * * *", syslog: { server: "udp://l" }', /tells everything/],
  ['no moment', 'digest: "0 7 * *", syslog: { server: "udp://l" }', /says no moments/],
  ['an event there is not', 'on: sometimes, syslog: { server: "udp://l" }', /Invalid option/],
])('%s is refused', (_, text, message) => {
  expect(() => one(text)).toThrow(message)
})
