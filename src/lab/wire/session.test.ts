import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { FakeClock } from '../../../test/lab/fake-clock.ts'
import { Sessions, VimFault } from './index.ts'

const peer = { ipAddress: '10.0.0.1', userAgent: 'test' }
const make = (): { clock: FakeClock; sessions: Sessions } => {
  const clock = new FakeClock()
  const check = (userName: string, password: string) =>
    password === 'right' ? { userName: `LAB\\${userName}`, fullName: userName } : undefined
  return { clock, sessions: new Sessions({ clock, check, idleMs: 30 * 60_000 }) }
}
const request = (headers: Record<string, string>, method = 'GET', url = '/'): IncomingMessage => {
  const message = new IncomingMessage(new Socket())
  Object.assign(message, { headers, method, url })
  return message
}
const cookieOf = (setCookie: string): string => setCookie.split(';')[0] ?? ''

describe('sessions', () => {
  it('end after the idle time, renewed by every call, held by a wait', () => {
    const { clock, sessions } = make()
    const { session, setCookie } = sessions.login('anna', 'right', peer)
    expect(setCookie).toMatch(/^vmware_soap_session="52[0-9a-f-]{34}"; Path=\/; HttpOnly; Secure;/)
    const asking = request({ cookie: cookieOf(setCookie) })
    clock.advance(29 * 60_000)
    expect(sessions.ofRequest(asking)?.key).toBe(session.key)
    clock.advance(29 * 60_000)
    {
      using _busy = sessions.busy(session)
      clock.advance(120 * 60_000)
      expect(sessions.list().length).toBe(1)
    }
    clock.advance(29 * 60_000)
    expect(sessions.ofRequest(asking)).toBeDefined()
    clock.advance(31 * 60_000)
    expect(sessions.ofRequest(asking)).toBeUndefined()
    expect(session.ended.aborted).toBe(true)
  })

  it('expire on demand, all or one user’s', () => {
    const { sessions } = make()
    const anna = sessions.login('anna', 'right', peer)
    const bert = sessions.login('bert', 'right', peer)
    expect(sessions.expireAll('LAB\\anna')).toBe(1)
    expect(sessions.ofRequest(request({ cookie: cookieOf(anna.setCookie) }))).toBeUndefined()
    expect(sessions.ofRequest(request({ cookie: cookieOf(bert.setCookie) }))).toBeDefined()
    expect(sessions.expireAll()).toBe(1)
  })

  it('refuse a wrong password and forged cookies', () => {
    const { sessions } = make()
    expect(() => sessions.login('anna', 'wrong', peer)).toThrow(VimFault)
    for (const cookie of ['', 'vmware_soap_session', 'vmware_soap_session=', 'vmware_soap_session="52-no"', '=;==;;']) {
      expect(sessions.ofRequest(request({ cookie }))).toBeUndefined()
    }
  })

  it('open by HTTP Basic on plain paths', () => {
    const { sessions } = make()
    const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString('base64')}` })
    const opened = sessions.authenticate(request(basic('anna:right')))
    expect(opened?.session.fullName).toBe('anna')
    expect(sessions.authenticate(request({ cookie: cookieOf(opened?.setCookie ?? '') }))?.session.key).toBe(opened?.session.key)
    for (const headers of [basic('anna:wrong'), basic('anna'), { authorization: 'Bearer x' }, {}])
      expect(sessions.authenticate(request(headers))).toBeUndefined()
  })

  it('give clone tickets for one use', () => {
    const { clock, sessions } = make()
    const { session } = sessions.login('anna', 'right', peer)
    const ticket = sessions.issueCloneTicket(session)
    expect(sessions.cloneSession(ticket, peer).session.userName).toBe('LAB\\anna')
    expect(() => sessions.cloneSession(ticket, peer)).toThrow(VimFault)
    const late = sessions.issueCloneTicket(session)
    clock.advance(61_000)
    expect(() => sessions.cloneSession(late, peer)).toThrow(VimFault)
  })

  it('give service tickets for one request to one URL by one method', () => {
    const { clock, sessions } = make()
    const { session } = sessions.login('anna', 'right', peer)
    const url = 'https://esx/folder/vm/a b.vmdk?dsName=ds1'
    const ask = (id: string, method = 'GET', path = '/folder/vm/a%20b.vmdk?dsName=ds1') =>
      sessions.redeemServiceTicket(request({ cookie: `vmware_cgi_ticket=${id}` }, method, path))
    const issue = () => sessions.issueServiceTicket(session, url, 'httpGet').id
    const id = issue()
    expect(ask(id)?.userName).toBe('LAB\\anna')
    expect(ask(id)).toBeUndefined()
    expect(ask(issue(), 'PUT')).toBeUndefined()
    expect(ask(issue(), 'GET', '/folder/vm/other.vmdk?dsName=ds1')).toBeUndefined()
    expect(ask(issue(), 'GET', '/folder/vm/a%20b.vmdk?dsName=ds2')).toBeUndefined()
    const late = issue()
    clock.advance(61_000)
    expect(ask(late)).toBeUndefined()
  })
})
