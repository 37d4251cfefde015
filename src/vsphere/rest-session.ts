import { type Abortable, AgentError, isAgentError } from '../core/index.ts'
import { drainText, type HttpAnswer, HttpClient } from './http-client.ts'
import type { Vsphere } from './vsphere.ts'

const TIMEOUT_MS = 60_000
const MAX_JSON = 16 * 1024 * 1024

/** `/api` since 7.0 U2; `/rest` before, where every result is wrapped in `{"value": …}` and ids are written `id:…`. */
type Form = 'api' | 'rest'

/** A session of vCenter's REST interface, used for tags only. Disposal ends it. */
export class RestSession implements AsyncDisposable {
  readonly host: string
  readonly #client: HttpClient
  readonly #form: Form
  readonly #token: string

  private constructor(host: string, client: HttpClient, form: Form, token: string) {
    this.host = host
    this.#client = client
    this.#form = form
    this.#token = token
  }

  /** Logs in with the credentials of the SOAP session. AUTH, UNAVAILABLE. */
  static async open(vsphere: Vsphere, options?: Abortable): Promise<RestSession> {
    const { client, credentials } = vsphere.http
    const basic = Buffer.from(`${credentials.user}:${credentials.password.reveal()}`).toString('base64')
    const forms = [
      ['api', '/api/session'],
      ['rest', '/rest/com/vmware/cis/session'],
    ] as const
    for (const [form, path] of forms) {
      const headers = { authorization: `Basic ${basic}`, ...(form === 'rest' ? { 'vmware-use-header-authn': 'vcb' } : {}) }
      const answer = await client.send({ method: 'POST', path, headers, timeoutMs: TIMEOUT_MS, changes: 'REST log in' }, options)
      if (answer.status === 404 || answer.status === 405 || answer.status === 400 || answer.status === 503) {
        await drainText(answer)
        continue
      }
      const token = unwrap(form, await readJson(answer, vsphere.host, path))
      if (typeof token === 'string' && token !== '') return new RestSession(vsphere.host, client, form, token)
      throw new AgentError('INTEGRITY', `${vsphere.host} gave no session token at ${path}.`, { subject: vsphere.host })
    }
    throw new AgentError('UNAVAILABLE', `${vsphere.host} offers no REST interface, so tags cannot be read.`, {
      subject: vsphere.host,
      next: 'Select the VMs by name or folder.',
      retry: 'never',
    })
  }

  /** `GET …/tagging/KIND` or one object of it. Unknown object: undefined. */
  get(kind: 'tag' | 'category', id?: string, options?: Abortable): Promise<unknown> {
    return this.#ask('GET', `${kind}${id === undefined ? '' : this.#id(id)}`, options)
  }

  /** Objects that carry a tag. */
  attachedTo(tag: string, options?: Abortable): Promise<unknown> {
    const action = this.#form === 'rest' ? '~action' : 'action'
    return this.#ask('POST', `tag-association${this.#id(tag)}?${action}=list-attached-objects`, options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const path = this.#form === 'rest' ? '/rest/com/vmware/cis/session' : '/api/session'
    try {
      await drainText(
        await this.#client.send({ method: 'DELETE', path, headers: this.#headers(), timeoutMs: 10_000, changes: 'REST log out' }),
      )
    } catch (error) {
      // It ends by itself; only a broken connection may be passed over.
      if (!isAgentError(error, 'UNAVAILABLE')) throw error
    }
  }

  #id(id: string): string {
    return this.#form === 'rest' ? `/id:${encodeURIComponent(id)}` : `/${encodeURIComponent(id)}`
  }

  #headers(): Readonly<Record<string, string>> {
    return { 'vmware-api-session-id': this.#token, accept: 'application/json' }
  }

  async #ask(method: 'GET' | 'POST', below: string, options?: Abortable): Promise<unknown> {
    const path = `${this.#form === 'rest' ? '/rest/com/vmware/cis/tagging' : '/api/cis/tagging'}/${below}`
    // Some servers refuse a POST without a body, although nothing is to be said.
    const body = method === 'POST' ? { body: '{}' } : {}
    const headers = { ...this.#headers(), ...(method === 'POST' ? { 'content-type': 'application/json' } : {}) }
    const answer = await this.#client.send({ method, path, headers, ...body, timeoutMs: TIMEOUT_MS }, options)
    if (answer.status === 404) {
      await drainText(answer)
      return undefined
    }
    return unwrap(this.#form, await readJson(answer, this.host, path))
  }
}

const unwrap = (form: Form, value: unknown): unknown =>
  form === 'rest' && typeof value === 'object' && value !== null && 'value' in value ? value.value : value

async function readJson(answer: HttpAnswer, host: string, path: string): Promise<unknown> {
  const text = await drainText(answer, MAX_JSON)
  if (answer.status === 401 || answer.status === 403) {
    throw new AgentError('AUTH', `${host} refused ${path} (HTTP ${answer.status}).`, { subject: host })
  }
  if (answer.status !== 200 && answer.status !== 201) {
    throw new AgentError('UNAVAILABLE', `${host} answered ${path} with HTTP status ${answer.status}.`, { subject: host, retry: 'later' })
  }
  try {
    return JSON.parse(Buffer.from(text, 'latin1').toString('utf8')) as unknown
  } catch (error) {
    throw new AgentError('INTEGRITY', `${host} answered ${path} with something that is not JSON.`, { subject: host, cause: error })
  }
}
