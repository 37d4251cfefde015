import { type Abortable, AgentError, type Clock, effect, isAgentError, type Log, type MoRef, throwIfAborted } from '../core/index.ts'
import { connectionError, neverConnected } from './connection-error.ts'
import { faultError } from './fault-error.ts'
import { drainText, HttpClient, type HttpAnswer, type HttpRequest } from './http-client.ts'
import { decodeAnswer, encodeCall, VIM25 } from './soap.ts'
import { retrieveAll } from './property-collector.ts'
import { type Endpoint, parseEndpoint, resolveTrust, type Trust } from './trust.ts'
import { chooseVersion, parseServiceVersions } from './versions.ts'
import type { VimFields } from './vim-data.ts'
import { faultOf, isFault, VimFault } from './vim-fault.ts'
import type { VimNode } from './vim-node.ts'
import type { CallOptions, SessionHttp, Vsphere, VsphereAbout, VsphereOptions } from './vsphere.ts'
import { XmlReader } from './xml-reader.ts'

const SERVICE_INSTANCE: MoRef = { type: 'ServiceInstance', value: 'ServiceInstance' }
const TIMEOUT_MS = 120_000
/** Answers larger than this are refused. A page of 250 VMs with their devices stays far below. */
const MAX_ANSWER = 512 * 1024 * 1024
/** The server forgets a session after 30 idle minutes. */
const KEEP_ALIVE_MS = 5 * 60_000
/** Tries of every call; more only for a server that is away while a session is open. */
const READ_ATTEMPTS = 4
/**
 * How long an open session waits for a server that is away (a service restarting, a network cut short) before calls fail, ms. Counted from the
 * first call it did not answer, so that calls made after that time fail after a few tries each until it is back.
 */
const AWAY_MS = 60_000
const AWAY_ATTEMPTS = 12
const LONGEST_PAUSE_MS = 8000

/**
 * Calls that change nothing but this session's own views, a lease's sign of life and how fresh a figure is, so that sending one twice does no harm. All others are
 * effects.
 */
const READS = new Set([
  'RetrieveServiceContent',
  'RetrieveInternalContent',
  'CurrentTime',
  'RetrieveProperties',
  'RetrievePropertiesEx',
  'FindByInventoryPath',
  'FindByUuid',
  'FindAllByUuid',
  'FindByIp',
  'FindAllByIp',
  'FindByDnsName',
  'FindAllByDnsName',
  'FindByDatastorePath',
  'FindChild',
  'QueryChangedDiskAreas',
  'HasPrivilegeOnEntities',
  'SessionIsActive',
  'HttpNfcLeaseGetManifest',
  'HttpNfcLeaseProgress',
  // A ticket nobody uses does nothing and runs out by itself.
  'NfcGetVmFiles',
  // So does an address of a file that nobody fetches.
  'InitiateFileTransferFromGuest',
  'ListProcessesInGuest',
  'NfcRandomAccessOpenDisk',
  'NfcRandomAccessOpenReadonly',
  'CreateContainerView',
  'CreatePropertyCollector',
  'CreateFilter',
  'DestroyView',
  'DestroyPropertyCollector',
  'WaitForUpdatesEx',
  'RefreshDatastore',
  'RefreshStorageInfo',
])

/** Connects, verifies the certificate, logs in. Disposal logs out. Errors: AUTH, UNAVAILABLE, CONFIG (bad url, unreadable CA file). */
export async function connectVsphere(options: VsphereOptions, abort?: Abortable): Promise<Vsphere> {
  throwIfAborted(abort)
  const endpoint = parseEndpoint(options.url)
  const trust = await resolveTrust(options.trust)
  const session = new VsphereSession(options, endpoint, trust)
  try {
    await session.open(abort)
  } catch (error) {
    await session.http.client[Symbol.asyncDispose]()
    throw error
  }
  return session
}

class VsphereSession implements Vsphere {
  readonly host: string
  readonly user: string
  readonly clock: Clock
  readonly log: Log
  readonly http: SessionHttp
  readonly #options: VsphereOptions
  readonly #endpoint: Endpoint
  readonly #client: HttpClient
  readonly #services = new Map<string, MoRef>()
  #about: VsphereAbout | undefined
  #version = ''
  #cookie: string | undefined
  #key = ''
  #login = 0
  #renewal: Promise<void> | undefined
  #keepAlive: Disposable | undefined
  #closed = false
  /** Monotonic; since when the server has not answered. */
  #awaySince: number | undefined

  constructor(options: VsphereOptions, endpoint: Endpoint, trust: Trust) {
    this.#options = Object.freeze({ ...options })
    this.#endpoint = endpoint
    this.host = endpoint.host
    this.user = options.user
    this.clock = options.clock
    this.log = options.log
    this.#client = new HttpClient(endpoint.origin, trust)
    this.http = Object.freeze({
      client: this.#client,
      endpoint,
      trust,
      credentials: Object.freeze({ user: options.user, password: options.password }),
      cookie: () => this.#cookie ?? '',
      renew: (login: number) => this.#renew(login),
    })
  }

  get about(): VsphereAbout {
    if (this.#about === undefined) throw new AgentError('INTERNAL', 'The session is not open yet.')
    return this.#about
  }

  get login(): number {
    return this.#login
  }

  sessionKey(): string {
    return this.#key
  }

  service(name: string): MoRef {
    const found = this.#services.get(name)
    if (found !== undefined) return found
    throw new AgentError('UNAVAILABLE', `${this.host} (${this.about.fullName}) offers no ${name}.`, {
      subject: this.host,
      next: 'Connect to a vCenter, where this is available.',
      retry: 'never',
    })
  }

  hasService(name: string): boolean {
    return this.#services.has(name)
  }

  async open(abort?: Abortable): Promise<void> {
    this.#version = await this.#negotiate(abort)
    const [content] = await this.#repeated('RetrieveServiceContent', SERVICE_INSTANCE, {}, { ...abort })
    if (content === undefined) throw new AgentError('INTEGRITY', `${this.host} gave no service content.`, { subject: this.host })
    for (const child of content.children) {
      const ref = child.asRef()
      if (ref !== undefined) this.#services.set(child.name, ref)
    }
    await this.#logIn(abort)
    try {
      this.#about = await this.#describe(content)
    } catch (error) {
      await this[Symbol.asyncDispose]()
      throw error
    }
    this.log.debug('logged in', { host: this.host, user: this.user, server: this.#about.fullName, version: this.#version })
    this.#keepAlive = this.clock.every(
      KEEP_ALIVE_MS,
      async () => {
        await this.call('CurrentTime', SERVICE_INSTANCE)
      },
      (error) => this.log.warn('keep-alive failed', { host: this.host, error: error instanceof Error ? error.message : String(error) }),
    )
  }

  async call(method: string, self: MoRef, args: VimFields = {}, options: CallOptions = {}): Promise<readonly VimNode[]> {
    const login = this.#login
    try {
      return await this.#repeated(method, self, args, options)
    } catch (error) {
      if (!isFault(error, 'NotAuthenticated')) throw error
      await this.#renew(login)
      return this.#repeated(method, self, args, options)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#keepAlive?.[Symbol.dispose]()
    const manager = this.#services.get('sessionManager')
    try {
      if (manager !== undefined && this.#cookie !== undefined) await this.#once('Logout', manager, {}, { timeoutMs: 10_000 })
    } catch (error) {
      // The server ends the session by itself after 30 minutes.
      this.log.debug('logout failed', { host: this.host, error: error instanceof Error ? error.message : String(error) })
    } finally {
      this.#closed = true
      this.#cookie = undefined
      await this.#client[Symbol.asyncDispose]()
    }
  }

  async #negotiate(abort?: Abortable): Promise<string> {
    const path = `${this.#endpoint.path}/vimServiceVersions.xml`
    const answer = await this.#client.send({ method: 'GET', path, headers: {}, timeoutMs: TIMEOUT_MS }, abort)
    if (answer.status !== 200) throw this.#strange(answer.status, await drainText(answer))
    return chooseVersion(parseServiceVersions(await this.#read(answer, 1024 * 1024, abort)), this.host)
  }

  async #logIn(abort?: Abortable): Promise<void> {
    // A Login on a session that is logged in already is refused, so it starts without one.
    this.#cookie = undefined
    const { user, password } = this.#options
    const [session] = await this.#once(
      'Login',
      this.service('sessionManager'),
      { userName: user, password: password.reveal() },
      { ...abort, subject: `user ${user}` },
    )
    this.#key = session?.string('key') ?? ''
    this.#login++
  }

  /** Shared by every call that found the session gone, so no single caller's signal ends it. */
  #renew(login: number): Promise<void> {
    if (login !== this.#login) return Promise.resolve()
    this.#renewal ??= this.#repeating('Login', true, {}, () => this.#logIn())
      .then(() => this.log.info('the session was gone; logged in again', { host: this.host }))
      .finally(() => {
        this.#renewal = undefined
      })
    return this.#renewal
  }

  async #describe(content: VimNode): Promise<VsphereAbout> {
    const about = content.get('about')
    const kind = about?.string('apiType') === 'HostAgent' ? 'esxi' : 'vcenter'
    const found = {
      fullName: about?.string('fullName') ?? 'unknown',
      version: about?.string('version') ?? '',
      apiVersion: about?.string('apiVersion') ?? this.#version,
      build: about?.string('build') ?? '',
      kind,
      instanceUuid: about?.string('instanceUuid') ?? '',
    } as const
    return found.instanceUuid === '' ? { ...found, instanceUuid: await this.#hostUuid() } : found
  }

  /** A standalone host's hardware uuid, read through a throw-away view. */
  async #hostUuid(): Promise<string> {
    for await (const host of retrieveAll(this, { type: 'HostSystem', paths: ['hardware.systemInfo.uuid'] })) {
      const uuid = host.props.get('hardware.systemInfo.uuid')?.text
      if (uuid !== undefined && uuid !== '') return uuid
    }
    return ''
  }

  /** One call, translated; repeated on broken connections where that is safe. */
  #repeated(method: string, self: MoRef, args: VimFields, options: CallOptions): Promise<readonly VimNode[]> {
    return this.#repeating(method, READS.has(method), options, () => this.#once(method, self, args, options))
  }

  /** `harmless`: sending it twice changes nothing, so that a lost answer is no reason to stop. */
  async #repeating<T>(method: string, harmless: boolean, options: Abortable, send: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await send()
        this.#awaySince = undefined
        return answer
      } catch (error) {
        if (!isAgentError(error)) throw error
        if (faultOf(error) !== undefined) {
          this.#awaySince = undefined
          throw error
        }
        const away = error.code === 'UNAVAILABLE' && error.retry === 'now'
        if (!(harmless && (away || error.code === 'INTEGRITY')) && !neverConnected(error)) throw error
        if (away) this.#awaySince ??= this.clock.monotonicMs()
        const pause = Math.min(250 * 2 ** attempt, LONGEST_PAUSE_MS)
        if (!this.#mayWait(attempt, away, pause)) throw error
        const facts = { host: this.host, method, attempt, error: error.message, pause }
        if (attempt === READ_ATTEMPTS) this.log.warn('the server does not answer; calls are made again until it does', facts)
        else this.log.debug('calling again', facts)
        await this.clock.sleep(pause, options)
      }
    }
  }

  #mayWait(attempt: number, away: boolean, pause: number): boolean {
    if (attempt < READ_ATTEMPTS) return true
    if (!away || attempt >= AWAY_ATTEMPTS || this.#about === undefined || this.#awaySince === undefined) return false
    return this.clock.monotonicMs() + pause - this.#awaySince <= AWAY_MS
  }

  #once(method: string, self: MoRef, args: VimFields, options: CallOptions): Promise<readonly VimNode[]> {
    if (READS.has(method)) return this.#send(method, self, args, options)
    return effect({ kind: 'call', what: method, on: self.value }, () => this.#send(method, self, args, options))
  }

  async #send(method: string, self: MoRef, args: VimFields, options: CallOptions): Promise<readonly VimNode[]> {
    throwIfAborted(options)
    if (this.#closed) throw new AgentError('INTERNAL', `${method} was called on a session with ${this.host} that is closed already.`)
    const namespace = options.namespace ?? VIM25
    const request: HttpRequest = {
      method: 'POST',
      path: this.#endpoint.path,
      headers: {
        'content-type': 'text/xml; charset=utf-8',
        soapaction: `${VIM25}/${this.#version}`,
        ...(this.#cookie === undefined ? {} : { cookie: this.#cookie }),
      },
      body: encodeCall(method, self, args, namespace, this.#options.operationId),
      timeoutMs: options.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS,
    }
    const answer = await this.#client.send(request, options)
    if (answer.status !== 200 && answer.status !== 500) throw this.#strange(answer.status, await drainText(answer))
    this.#keepCookie(answer)
    const root = await this.#read(answer, MAX_ANSWER, options)
    try {
      return decodeAnswer(root, method)
    } catch (error) {
      throw error instanceof VimFault ? faultError(error, method, this.host, options.subject) : error
    }
  }

  async #read(answer: HttpAnswer, maxBytes: number, options?: Abortable): Promise<VimNode> {
    const reader = new XmlReader(maxBytes)
    try {
      for await (const chunk of answer.body as AsyncIterable<Uint8Array>) reader.write(chunk)
    } catch (error) {
      answer.body.destroy()
      if (isAgentError(error)) throw error
      throw connectionError(error, this.host, options?.signal)
    }
    return reader.end()
  }

  #keepCookie(answer: HttpAnswer): void {
    const received = answer.headers['set-cookie']
    for (const cookie of typeof received === 'string' ? [received] : (received ?? [])) {
      if (cookie.startsWith('vmware_soap_session=')) this.#cookie = cookie.split(';', 1)[0]
    }
  }

  #strange(status: number, text: string): AgentError {
    const line = text
      .replaceAll(/<[^>]*>/g, ' ')
      .replaceAll(/\s+/g, ' ')
      .trim()
      .slice(0, 120)
    return new AgentError('UNAVAILABLE', `${this.host} answered with HTTP status ${status}${line === '' ? '' : ` (${line})`}.`, {
      subject: this.host,
      next: 'Check that the address is that of a vCenter or ESXi host and that no proxy answers in its place.',
      retry: status === 502 || status === 503 || status === 504 ? 'now' : 'never',
    })
  }
}
