import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Clock } from '../../core/index.ts'
import { VimFault } from './fault.ts'
import type { LabObject } from './value.ts'

/** A logged-in client. `key` is UserSession.key; the cookie's value is another one and is never shown in a reply's body. */
export type LabSession = {
  readonly key: string
  readonly userName: string
  readonly fullName: string
  readonly loginTime: Date
  readonly ipAddress: string
  readonly userAgent: string
  readonly locale: string
  /** Aborted when the session ends: logout, time-out, expiry on demand. */
  readonly ended: AbortSignal
}

export type SessionsOptions = {
  readonly clock: Clock
  /** Milliseconds without a call after which a session is gone; 30 minutes on real servers. */
  readonly idleMs?: number
  /** Answers the user's proper names, or undefined when user or password is wrong. */
  readonly check: (userName: string, password: string) => LabUser | undefined
}
export type LabUser = { readonly userName: string; readonly fullName: string }
export type Peer = { readonly ipAddress: string; readonly userAgent: string; readonly locale?: string | undefined }
export type ServiceTicket = { readonly id: string; readonly url: string; readonly method: string | undefined; readonly userName: string }

type Entry = {
  session: LabSession
  cookie: string
  end: AbortController
  lastActive: number
  lastActiveTime: Date
  calls: number
  busy: number
}

const COOKIE = 'vmware_soap_session'
const TICKET_MS = 60_000

/**
 * Who is logged in: cookies, idle time-out by the clock, clone tickets and generic service tickets. One per server; the wire and the model's
 * other HTTP paths (`/folder`, `/nfc`) ask it.
 */
export class Sessions {
  readonly #options: SessionsOptions
  readonly #byCookie = new Map<string, Entry>()
  readonly #cloneTickets = new Map<string, { user: LabUser; expires: number }>()
  readonly #serviceTickets = new Map<string, ServiceTicket & { expires: number }>()

  constructor(options: SessionsOptions) {
    this.#options = Object.freeze({ ...options })
  }

  /** Opens a session. Fault InvalidLogin. `setCookie` is the header value to answer with. */
  login(userName: string, password: string, peer: Peer): { session: LabSession; setCookie: string } {
    const user = this.#options.check(userName, password)
    if (user === undefined) throw new VimFault('InvalidLogin', {}, 'Cannot complete login due to an incorrect user name or password.')
    return this.#open(user, peer)
  }

  /** Ends one session; its views, filters and collectors go with it. */
  logout(session: LabSession): void {
    for (const entry of this.#byCookie.values()) if (entry.session.key === session.key) this.#end(entry)
  }

  /** Ends every session (or one user's), as a restart of the management service or an administrator does. Returns how many. */
  expireAll(userName?: string): number {
    const entries = [...this.#byCookie.values()].filter((entry) => userName === undefined || entry.session.userName === userName)
    for (const entry of entries) this.#end(entry)
    return entries.length
  }

  /** The session a request belongs to by its cookie, renewed; undefined when there is none or it is over. */
  ofRequest(request: IncomingMessage): LabSession | undefined {
    const entry = this.#entry(request)
    if (entry === undefined) return undefined
    this.#renew(entry)
    return entry.session
  }

  /**
   * For plain HTTP paths: the session by cookie, or by HTTP Basic, which opens one; `setCookie` is then to be sent. Undefined: answer 401.
   */
  authenticate(request: IncomingMessage): { session: LabSession; setCookie?: string } | undefined {
    const session = this.ofRequest(request)
    if (session !== undefined) return { session }
    const [, basic] = /^Basic ([A-Za-z0-9+/=]+)$/.exec(request.headers.authorization ?? '') ?? []
    if (basic === undefined) return undefined
    const text = Buffer.from(basic, 'base64').toString('utf8')
    const colon = text.indexOf(':')
    const user = colon < 0 ? undefined : this.#options.check(text.slice(0, colon), text.slice(colon + 1))
    return user === undefined ? undefined : this.#open(user, peerOf(request))
  }

  /** Holds the session alive while a long call (WaitForUpdatesEx) is under way. */
  busy(session: LabSession): Disposable {
    const entry = [...this.#byCookie.values()].find((candidate) => candidate.session.key === session.key)
    if (entry !== undefined) entry.busy++
    return {
      [Symbol.dispose]: () => {
        if (entry === undefined) return
        entry.busy--
        this.#renew(entry)
      },
    }
  }

  /** Every live session, for `vcb lab state`, SessionManager.sessionList and SessionIsActive. */
  list(): LabSession[] {
    for (const entry of this.#byCookie.values()) if (this.#isIdle(entry)) this.#end(entry)
    return [...this.#byCookie.values()].map((entry) => entry.session)
  }

  /** The session as a UserSession data object. */
  userSession(session: LabSession): LabObject {
    const entry = [...this.#byCookie.values()].find((candidate) => candidate.session.key === session.key)
    return {
      $type: 'UserSession',
      key: session.key,
      userName: session.userName,
      fullName: session.fullName,
      loginTime: session.loginTime,
      lastActiveTime: entry?.lastActiveTime ?? session.loginTime,
      locale: session.locale,
      messageLocale: session.locale,
      extensionSession: false,
      ipAddress: session.ipAddress,
      userAgent: session.userAgent,
      callCount: entry?.calls ?? 0,
    }
  }

  /** A one-use ticket that opens a second session for the same user. */
  issueCloneTicket(session: LabSession): string {
    const ticket = `cst-VCT-${randomUUID()}--tp-${randomUUID()}`
    this.#cloneTickets.set(ticket, { user: { userName: session.userName, fullName: session.fullName }, expires: this.#now() + TICKET_MS })
    return ticket
  }

  /** Fault InvalidLogin when the ticket is unknown, used or old. */
  cloneSession(ticket: string, peer: Peer): { session: LabSession; setCookie: string } {
    const found = this.#cloneTickets.get(ticket)
    this.#cloneTickets.delete(ticket)
    if (found === undefined || found.expires < this.#now()) throw new VimFault('InvalidLogin', {}, 'The clone ticket is not valid.')
    return this.#open(found.user, peer)
  }

  /** A ticket for one HTTP request to `url`; `method` is `httpGet`, `httpPut`, `httpHead`, … or undefined for any. */
  issueServiceTicket(session: LabSession, url: string, method: string | undefined): ServiceTicket {
    for (const [id, ticket] of this.#serviceTickets) if (ticket.expires < this.#now()) this.#serviceTickets.delete(id)
    const ticket = { id: `52${randomUUID().slice(2)}`, url, method, userName: session.userName }
    this.#serviceTickets.set(ticket.id, { ...ticket, expires: this.#now() + TICKET_MS })
    return ticket
  }

  /** The ticket a request carries in its `vmware_cgi_ticket` cookie, used up by this call; undefined when it fits no ticket. */
  redeemServiceTicket(request: IncomingMessage): ServiceTicket | undefined {
    const id = cookie(request, 'vmware_cgi_ticket')
    const ticket = id === undefined ? undefined : this.#serviceTickets.get(id)
    if (ticket === undefined) return undefined
    this.#serviceTickets.delete(ticket.id)
    const method = `http${(request.method ?? '').charAt(0)}${(request.method ?? '').slice(1).toLowerCase()}`
    if (ticket.expires < this.#now() || (ticket.method !== undefined && ticket.method !== method)) return undefined
    const asked = new URL(request.url ?? '/', 'https://lab')
    const granted = new URL(ticket.url, 'https://lab')
    const same = decodeURIComponent(asked.pathname) === decodeURIComponent(granted.pathname)
    return same && asked.searchParams.get('dsName') === granted.searchParams.get('dsName') ? ticket : undefined
  }

  #open(user: LabUser, peer: Peer): { session: LabSession; setCookie: string } {
    const end = new AbortController()
    const loginTime = this.#options.clock.now()
    const session: LabSession = Object.freeze({
      key: `52${randomUUID().slice(2)}`,
      userName: user.userName,
      fullName: user.fullName,
      loginTime,
      ipAddress: peer.ipAddress,
      userAgent: peer.userAgent,
      locale: peer.locale ?? 'en',
      ended: end.signal,
    })
    const value = `52${randomUUID().slice(2)}`
    this.#byCookie.set(value, { session, cookie: value, end, lastActive: this.#now(), lastActiveTime: loginTime, calls: 0, busy: 0 })
    return { session, setCookie: `${COOKIE}="${value}"; Path=/; HttpOnly; Secure; ` }
  }

  #entry(request: IncomingMessage): Entry | undefined {
    const value = cookie(request, COOKIE)
    const entry = value === undefined ? undefined : this.#byCookie.get(value)
    if (entry !== undefined && this.#isIdle(entry)) {
      this.#end(entry)
      return undefined
    }
    return entry
  }

  #renew(entry: Entry): void {
    entry.lastActive = this.#now()
    entry.lastActiveTime = this.#options.clock.now()
    entry.calls++
  }

  #isIdle(entry: Entry): boolean {
    return entry.busy === 0 && this.#now() - entry.lastActive > (this.#options.idleMs ?? 30 * 60_000)
  }

  #end(entry: Entry): void {
    this.#byCookie.delete(entry.cookie)
    entry.end.abort(new Error('session ended'))
  }

  #now(): number {
    return this.#options.clock.monotonicMs()
  }
}

export const peerOf = (request: IncomingMessage): Peer => ({
  ipAddress: request.socket.remoteAddress ?? '127.0.0.1',
  userAgent: request.headers['user-agent'] ?? '',
})

/** A cookie's value, quoted or bare; clients also send back whole Set-Cookie texts with their attributes, or an empty header. */
function cookie(request: IncomingMessage, name: string): string | undefined {
  for (const part of (request.headers.cookie ?? '').split(/[;,]/)) {
    const at = part.indexOf('=')
    if (at > 0 && part.slice(0, at).trim() === name)
      return part
        .slice(at + 1)
        .trim()
        .replace(/^"(.*)"$/, '$1')
  }
  return undefined
}
