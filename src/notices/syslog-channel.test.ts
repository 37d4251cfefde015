import { describe, expect, test } from 'vitest'
import fc from 'fast-check'
import { A_NIGHT, ANY, HOSTILE, runOf, vmNamed } from '../../test/notices-world.ts'
import { freePort } from '../../test/free-port.ts'
import { requirePeer } from '../../test/peer.ts'
import { startRsyslog } from '../../test/syslog-server.ts'
import { type RunRecord, systemClock } from '../core/index.ts'
import { composeNotice } from './compose-notice.ts'
import type { Notice } from './notice.ts'
import { SyslogChannel } from './syslog-channel.ts'
import type { SyslogServer } from './syslog-dial.ts'
import { syslogMessage } from './syslog-message.ts'

const noticeOf = (record: RunRecord): Notice =>
  composeNotice([{ version: 1, id: 'ab01', at: '2026-11-25T21:14:02.000Z', kind: 'run', event: 'failure', record }], {
    proxy: 'proxy01',
    timeZone: 'UTC',
    at: new Date('2026-11-25T21:15:00.123Z'),
    dropped: 0,
  })
const channel = (server: SyslogServer) =>
  new SyslogChannel({ server, facility: 'local3', host: 'proxy01', pid: 77, patienceMs: 5000, clock: systemClock })

describe('syslog, read by rsyslogd', () => {
  test('over UDP, TCP, TLS and the local socket: every field is the one that was meant', async () => {
    await using server = await startRsyslog(requirePeer('rsyslogd'), requirePeer('openssl'))
    requirePeer('logger')
    const host = '127.0.0.1'
    const ways: readonly SyslogServer[] = [
      { over: 'udp', host, port: server.udp },
      { over: 'tcp', host, port: server.tcp },
      { over: 'tls', host, port: server.tls, ca: server.ca },
      { over: 'unix', path: server.socket },
    ]
    const failed = { ...(A_NIGHT.records[3] ?? runOf(vmNamed('x'))), vm: vmNamed(`Büro"]\\${HOSTILE}`) }
    for (const [index, way] of ways.entries()) {
      await channel(way).send(noticeOf(failed), {})
      const message = (await server.received(index + 1)).at(-1)
      expect(message, way.over).toMatchObject({ pri: String(19 * 8 + 3), version: '1', app: 'vcb', proc: '77', msgid: 'failed' })
      if (way.over !== 'unix') expect(message).toMatchObject({ host: 'proxy01', time: '2026-11-25T21:15:00.123Z' })
      const name = String.raw`Büro\"\]\\<img src=x onerror=\"a()\">&'\\u000d\\u000aOK\\u001b[31m\\u202e`
      expect(message?.sd).toContain(`vm="${name}"`)
      expect(message?.sd).toMatch(/^\[vcb@32473 notice="ab01" run="aa00" .*result="failed" code="CAPACITY" .*durationMs="840000"/)
      expect(message?.msg).toMatch(/failed \(CAPACITY\): The datastore ds1 has 1\.0 GiB free\. Free space on it\.$/)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
      expect(`${message?.msg}${message?.sd}`).not.toMatch(/[\u0000-\u001f\u202e]/)
    }
    const long = noticeOf({ ...failed, error: { code: 'INTERNAL', message: 'ö'.repeat(50_000), next: undefined } })
    for (const way of ways) await channel(way).send(long, {})
    const cut = (await server.received(8)).slice(4)
    expect(cut.map(({ msg }) => /^.*\(INTERNAL\): ö+$/.test(msg))).toEqual([true, true, true, true])
    await channel({ over: 'tcp', host, port: server.tcp }).send(noticeOf(runOf(vmNamed('db01'))), {})
    expect((await server.received(9)).at(-1)).toMatchObject({ pri: String(19 * 8 + 6), msgid: 'succeeded' })
  })

  test('a server nobody vouches for is AUTH, one that is away UNAVAILABLE', async () => {
    await using server = await startRsyslog(requirePeer('rsyslogd'), requirePeer('openssl'))
    const notice = noticeOf(runOf(vmNamed('db01')))
    const host = '127.0.0.1'
    await expect(channel({ over: 'tls', host, port: server.tls, ca: undefined }).send(notice, {})).rejects.toMatchObject({ code: 'AUTH' })
    await expect(channel({ over: 'tcp', host, port: await freePort() }).send(notice, {})).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await expect(channel({ over: 'unix', path: '/nonexistent/log' }).send(notice, {})).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })
})

test('whatever a VM is called, a message is one line of at most so many bytes, and valid UTF-8', () => {
  fc.assert(
    fc.property(fc.string({ unit: ANY, maxLength: 300 }), fc.integer({ min: 480, max: 2048 }), (name, mostBytes) => {
      const bytes = syslogMessage(noticeOf(runOf(vmNamed(name))), { facility: 'daemon', host: name, pid: 1, mostBytes })
      expect(bytes.length).toBeLessThanOrEqual(mostBytes)
      const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
      expect(text).toMatch(/^<30>1 2026-11-25T21:15:00\.123Z [!-~]{1,255} vcb 1 succeeded \[vcb@32473 [^\u0000-\u001f]*$/)
    }),
    { numRuns: 100, seed: 11 },
  )
})
