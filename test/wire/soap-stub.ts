import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { type Clock, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { connectVsphere, type Vsphere } from '../../src/vsphere/index.ts'

const GOLDEN = join(import.meta.dirname, '..', 'golden', 'soap')

/** What the stub does with a call: XML inside the answer, a fault, or an accident on the wire. */
export type Reaction =
  | string
  | { readonly accident: 'cut' | 'truncate' }
  | { readonly fault: string; readonly fields?: string }
  | { readonly status: number; readonly body: string }
  | Promise<string>

export const CUT: Reaction = Object.freeze({ accident: 'cut' })
export const TRUNCATE: Reaction = Object.freeze({ accident: 'truncate' })

export type SoapCall = {
  readonly method: string
  readonly body: string
  readonly soapAction: string
  readonly cookie: string
  /** Calls of this method so far, this one included. */
  readonly count: number
}

/** A server of a few calls over TLS, for what no simulator does on demand: cut answers, forgotten sessions, other certificates. */
export class SoapStub implements AsyncDisposable {
  readonly calls: SoapCall[] = []
  /** Bytes received after the handshake. */
  received = 0
  /** Sessions known; cleared by `forget`. */
  readonly sessions = new Set<string>()
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #react: (call: SoapCall) => Reaction | undefined
  #logins = 0

  private constructor(certificate: string, react: (call: SoapCall) => Reaction | undefined) {
    this.#react = react
    this.#server = createServer(
      { key: readFileSync(join(GOLDEN, `${certificate}.key.pem`)), cert: readFileSync(join(GOLDEN, `${certificate}.cert.pem`)) },
      (request, response) => void this.#answer(request, response),
    )
    this.#server.on('secureConnection', (socket) => {
      this.#sockets.add(socket)
      socket.on('data', (chunk) => {
        this.received += chunk.length
      })
      socket.on('close', () => this.#sockets.delete(socket))
    })
  }

  static async start(react: (call: SoapCall) => Reaction | undefined = () => undefined, certificate = 'first'): Promise<SoapStub> {
    const stub = new SoapStub(certificate, react)
    await new Promise<void>((resolve) => stub.#server.listen(0, '127.0.0.1', resolve))
    return stub
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  connect(thumbprint: string, clock: Clock = systemClock): Promise<Vsphere> {
    const options = {
      url: this.host,
      user: 'u',
      password: new Secret('p'),
      trust: { thumbprint },
      log: silentLog,
      clock,
      operationId: 'job-1',
    }
    return connectVsphere(options)
  }

  /** The server forgets every session, as after 30 idle minutes. */
  forget(): void {
    this.sessions.clear()
  }

  count(method: string): number {
    return this.calls.filter((call) => call.method === method).length
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = Buffer.concat(await Array.fromAsync(request as AsyncIterable<Buffer>)).toString()
    if (request.url?.endsWith('/vimServiceVersions.xml') === true) {
      response.end(
        '<namespaces version="1.0"><namespace><name>urn:vim25</name><version>9.0.0.0</version><priorVersions><version>8.0.3.0</version><version>6.5</version></priorVersions></namespace></namespaces>',
      )
      return
    }
    const method = /<[\w:]*Body><(\w+)/.exec(body)?.[1] ?? `${request.method} ${request.url}`
    const call: SoapCall = {
      method,
      body,
      soapAction: String(request.headers['soapaction'] ?? ''),
      cookie: request.headers.cookie ?? '',
      count: this.count(method) + 1,
    }
    this.calls.push(call)
    const reaction = await (this.#react(call) ?? this.#ordinary(call, response))
    if (typeof reaction === 'object' && 'accident' in reaction) {
      if (reaction.accident === 'cut') {
        request.socket.destroy()
        return
      }
      response.writeHead(200, { 'content-type': 'text/xml' })
      response.end(envelope(`<${method}Response xmlns="urn:vim25"><returnval>half`).slice(0, -40))
    } else if (typeof reaction === 'string') {
      response.end(envelope(`<${method}Response xmlns="urn:vim25">${reaction}</${method}Response>`))
    } else if ('fault' in reaction) {
      response.statusCode = 500
      response.end(envelope(faultXml(reaction.fault, reaction.fields ?? '')))
    } else {
      response.statusCode = reaction.status
      response.end(reaction.body)
    }
  }

  #ordinary({ method, cookie }: SoapCall, response: ServerResponse): Reaction {
    if (method === 'RetrieveServiceContent') return SERVICE_CONTENT
    if (method === 'Login') {
      const session = `"52-${++this.#logins}"`
      this.sessions.add(session)
      response.setHeader('set-cookie', `vmware_soap_session=${session}; Path=/; HttpOnly; Secure;`)
      return `<returnval><key>key-${this.#logins}</key></returnval>`
    }
    if (!this.sessions.has(cookie.replace('vmware_soap_session=', ''))) return { fault: 'NotAuthenticated' }
    if (method === 'CurrentTime') return '<returnval>2026-11-22T18:00:00Z</returnval>'
    if (method === 'CreatePropertyCollector') return `<returnval type="PropertyCollector">pc-${cookie.replaceAll(/\D/g, '')}</returnval>`
    if (method === 'CreateContainerView') return `<returnval type="ContainerView">view-${cookie.replaceAll(/\D/g, '')}</returnval>`
    if (method === 'CreateFilter') return '<returnval type="PropertyFilter">f</returnval>'
    return ''
  }
}

/** SHA-256 and SHA-1 of the stub's certificates are asked from the handshake by the tests. */
export const envelope = (inside: string): string =>
  '<?xml version="1.0" encoding="UTF-8"?>\n<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" ' +
  `xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>${inside}</soapenv:Body></soapenv:Envelope>`

export const faultXml = (name: string, fields: string): string =>
  `<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>${name} happened</faultstring><detail><${name}Fault xmlns="urn:vim25" xsi:type="${name}">${fields}</${name}Fault></detail></soapenv:Fault>`

const SERVICE_CONTENT =
  '<returnval><rootFolder type="Folder">group-d1</rootFolder><propertyCollector type="PropertyCollector">pc</propertyCollector>' +
  '<viewManager type="ViewManager">ViewManager</viewManager><about><name>VMware vCenter Server</name><fullName>stub</fullName><version>9.0.0</version>' +
  '<build>1</build><apiType>VirtualCenter</apiType><apiVersion>9.0.0.0</apiVersion><instanceUuid>stub-uuid</instanceUuid></about>' +
  '<sessionManager type="SessionManager">SessionManager</sessionManager><searchIndex type="SearchIndex">SearchIndex</searchIndex></returnval>'

/** A clock whose pauses are over at once; `every` never ticks. */
export const hurriedClock: Clock = {
  ...systemClock,
  sleep: (_ms, options) => systemClock.sleep(0, options),
  every: () => ({ [Symbol.dispose]: () => undefined }),
}
