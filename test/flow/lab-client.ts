import { readFile } from 'node:fs/promises'
import { request } from 'node:https'
import { SaxesParser } from 'saxes'
import { systemClock } from '../../src/core/index.ts'
import type { Lab, LabEndpoint } from '../../src/lab/index.ts'

/** One element of an answer; a client of the lab that shares nothing with the agent's. */
export type Xml = { readonly name: string; readonly type: string | undefined; readonly children: Xml[]; text: string }

export type HttpAnswer = { readonly status: number; readonly headers: Record<string, string | string[] | undefined>; readonly body: Buffer }

/** Speaks raw SOAP and plain HTTP to one endpoint of a lab. */
export class LabClient {
  readonly endpoint: LabEndpoint
  readonly #esxi: boolean
  #cookie = ''

  constructor(endpoint: LabEndpoint, esxi = false) {
    this.endpoint = endpoint
    this.#esxi = esxi
  }

  static async login(lab: Lab, kind: 'vcenter' | 'esxi' = 'vcenter', restricted = false): Promise<LabClient> {
    const client = new LabClient(lab.endpoints[kind], kind === 'esxi')
    const account = restricted ? lab.restricted : lab
    const password = (await readFile(account.passwordFile, 'utf8')).trim()
    await client.call('Login', client.sessionManager, `<userName>${account.user}</userName><password>${password}</password>`)
    return client
  }

  get sessionManager(): string {
    return this.#esxi ? '<_this type="SessionManager">ha-sessionmgr</_this>' : '<_this type="SessionManager">SessionManager</_this>'
  }

  get collector(): string {
    return this.#esxi
      ? '<_this type="PropertyCollector">ha-property-collector</_this>'
      : '<_this type="PropertyCollector">propertyCollector</_this>'
  }

  /** Plain HTTP with the session's cookie. */
  http(
    method: string,
    path: string,
    options: { readonly headers?: Record<string, string>; readonly body?: Buffer | string; readonly cutAfter?: number } = {},
  ): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = new URL(this.endpoint.url)
      const headers = { ...(this.#cookie === '' ? {} : { cookie: this.#cookie }), ...options.headers }
      // The path as it stands: `..` in it is the server's to judge.
      const sent = request({ hostname, port, path, method, rejectUnauthorized: false, agent: false, headers }, (response) => {
        const pieces: Buffer[] = []
        response
          .on('data', (piece: Buffer) => pieces.push(piece))
          .on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(pieces) }))
          .on('error', reject)
      })
      sent.on('error', reject)
      if (options.cutAfter === undefined) {
        sent.end(options.body)
        return
      }
      sent.write(Buffer.from(options.body ?? '').subarray(0, options.cutAfter), () => sent.destroy(new Error('cut by the client')))
    })
  }

  /** One SOAP call; the answer's body element. A fault is thrown as an Error whose message is the fault's type. */
  async call(method: string, self: string, args = ''): Promise<Xml> {
    const envelope = `<?xml version="1.0"?><Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"><Body><${method} xmlns="urn:vim25">${self}${args}</${method}></Body></Envelope>`
    const answer = await this.http('POST', '/sdk', {
      headers: { 'content-type': 'text/xml; charset=utf-8', soapaction: 'urn:vim25/8.0.3.0' },
      body: envelope,
    })
    const cookie = answer.headers['set-cookie']?.[0]
    if (cookie !== undefined) this.#cookie = cookie.split(';')[0] ?? ''
    const body = parseXml(answer.body.toString('utf8')).children.find((child) => child.name === 'Body')?.children[0]
    if (body === undefined) throw new Error(`no body: ${answer.status}`)
    if (body.name !== 'Fault') return body
    throw new Error(find(body, 'detail')?.children[0]?.type ?? find(body, 'faultstring')?.text ?? 'fault')
  }

  /** Properties of one object by path. */
  async read(type: string, id: string, ...paths: readonly string[]): Promise<Map<string, Xml>> {
    const answer = await this.call(
      'RetrievePropertiesEx',
      this.collector,
      `<specSet><propSet><type>${type}</type>${paths.map((path) => `<pathSet>${path}</pathSet>`).join('')}</propSet><objectSet><obj type="${type}">${id}</obj></objectSet></specSet><options/>`,
    )
    const found = new Map<string, Xml>()
    for (const set of findAll(answer, 'propSet')) {
      const value = find(set, 'val')
      if (value !== undefined) found.set(find(set, 'name')?.text ?? '', value)
    }
    return found
  }

  async text(type: string, id: string, path: string): Promise<string | undefined> {
    return (await this.read(type, id, path)).get(path)?.text
  }

  /** Starts a task and waits; its result, or an Error whose message is the fault's type. */
  async task(method: string, self: string, args = ''): Promise<Xml | undefined> {
    const task = find(await this.call(method, self, args), 'returnval')?.text ?? ''
    for (;;) {
      const info = (await this.read('Task', task, 'info')).get('info')
      const state = info === undefined ? '' : find(info, 'state')?.text
      if (info !== undefined && state === 'success') return info.children.find((child) => child.name === 'result')
      if (info !== undefined && state === 'error') throw new Error(find(info, 'fault')?.type ?? 'unknown')
      await systemClock.sleep(10)
    }
  }

  vm = (id: string): string => `<_this type="VirtualMachine">${id}</_this>`
  snapshot = (id: string): string => `<_this type="VirtualMachineSnapshot">${id}</_this>`

  /** Takes a snapshot; its moref. */
  async takeSnapshot(vm: string, name: string, quiesce = false): Promise<string> {
    const result = await this.task(
      'CreateSnapshot_Task',
      this.vm(vm),
      `<name>${name}</name><memory>false</memory><quiesce>${quiesce}</quiesce>`,
    )
    return result?.text ?? ''
  }

  removeSnapshot(id: string): Promise<Xml | undefined> {
    return this.task('RemoveSnapshot_Task', this.snapshot(id), '<removeChildren>false</removeChildren><consolidate>true</consolidate>')
  }

  /** The changeId and file of each disk in a snapshot's configuration. */
  async frozenDisks(snapshot: string): Promise<{ key: number; changeId: string | undefined; fileName: string }[]> {
    const config = (await this.read('VirtualMachineSnapshot', snapshot, 'config.hardware.device')).get('config.hardware.device')
    return (config?.children ?? [])
      .filter((device) => device.type === 'VirtualDisk')
      .map((device) => {
        const backing = device.children.find((child) => child.name === 'backing')
        const field = (name: string): string | undefined => backing?.children.find((child) => child.name === name)?.text
        return {
          key: Number(device.children.find((child) => child.name === 'key')?.text),
          changeId: field('changeId'),
          fileName: field('fileName') ?? '',
        }
      })
  }

  async areas(
    vm: string,
    snapshot: string,
    key: number,
    changeId: string,
    startOffset = 0,
  ): Promise<{ start: number; length: number; areas: { start: number; length: number }[] }> {
    const answer = await this.call(
      'QueryChangedDiskAreas',
      this.vm(vm),
      `<snapshot type="VirtualMachineSnapshot">${snapshot}</snapshot><deviceKey>${key}</deviceKey><startOffset>${startOffset}</startOffset><changeId>${changeId}</changeId>`,
    )
    const info = answer.children[0]
    const number = (xml: Xml | undefined, name: string): number => Number(xml?.children.find((child) => child.name === name)?.text)
    return {
      start: number(info, 'startOffset'),
      length: number(info, 'length'),
      areas: (info?.children ?? [])
        .filter((child) => child.name === 'changedArea')
        .map((area) => ({ start: number(area, 'start'), length: number(area, 'length') })),
    }
  }
}

export function find(xml: Xml, name: string): Xml | undefined {
  return findAll(xml, name).next().value ?? undefined
}

export function* findAll(xml: Xml, name: string): Generator<Xml, undefined> {
  for (const child of xml.children) {
    if (child.name === name) yield child
    yield* findAll(child, name)
  }
  return undefined
}

function parseXml(text: string): Xml {
  const parser = new SaxesParser({ xmlns: true })
  const root: Xml = { name: '', type: undefined, children: [], text: '' }
  const stack: Xml[] = [root]
  parser.on('opentag', (tag) => {
    const type = Object.values(tag.attributes).find((attribute) => attribute.local === 'type' && attribute.uri !== '')?.value
    const element: Xml = { name: tag.local, type, children: [], text: '' }
    stack.at(-1)?.children.push(element)
    stack.push(element)
  })
  parser.on('text', (piece) => {
    const top = stack.at(-1)
    if (top !== undefined) top.text += piece
  })
  parser.on('closetag', () => void stack.pop())
  parser.write(text).close()
  const [envelope] = root.children
  if (envelope === undefined) throw new Error('no XML')
  return envelope
}
