import type { IncomingMessage } from 'node:http'
import { type Log, toAgentError } from '../core/index.ts'
import type { Caller, Role } from './agent-control.ts'
import type { AuditLog } from './audit.ts'
import { Failures } from './failures.ts'
import { type Problem, refusal } from './problem.ts'
import { allows } from './roles.ts'
import type { Tokens } from './tokens.ts'

/** Longest header that is looked at for a token, characters. */
const LONGEST_HEADER = 256

export type Refused = { readonly problem: Problem; readonly headers: Readonly<Record<string, string>> }
export type Decision = { readonly caller: Caller } | Refused

export type AccessDeps = { readonly tokens: Tokens; readonly audit: AuditLog; readonly log: Log; readonly failures: Failures }

/** Who may do what, decided from the connection and one header, before anything else of a request is looked at. */
export class Access {
  readonly #deps: AccessDeps

  constructor(deps: AccessDeps) {
    this.#deps = deps
  }

  /** `needed` undefined: there is no such route, which is told only to callers who are known. */
  async decide(request: IncomingMessage, needed: Role | undefined, id: string): Promise<Decision> {
    const { failures } = this.#deps
    const address = request.socket.remoteAddress ?? 'unknown'
    const wait = failures.waitMs(address)
    if (wait > 0) {
      failures.add(address)
      const seconds = Math.ceil(wait / 1000)
      const problem = refusal(
        429,
        'Too many refused calls',
        'Too many calls with a wrong token came from this address.',
        `Wait ${seconds} s, and check the token.`,
      )
      return { problem, headers: { 'retry-after': String(seconds) } }
    }
    const caller = await this.#callerOf(request)
    if (caller === undefined) {
      failures.add(address)
      await this.#refused(request, id, { by: 'unknown', via: address, code: '401' })
      const problem = refusal(
        401,
        'No valid token',
        'The call has no token, or one that is wrong, expired or revoked.',
        'Send a token of "vcb token add" as "Authorization: Bearer TOKEN".',
      )
      return { problem, headers: { 'www-authenticate': 'Bearer realm="vcb-proxy"' } }
    }
    if (needed === undefined || allows(caller.role, needed)) return { caller }
    await this.#refused(request, id, { by: caller.name, via: address, code: '403', role: caller.role })
    const problem = refusal(
      403,
      'Role too low',
      `The token ${caller.name} has the role ${caller.role}; this needs ${needed}.`,
      `Use a token with the role ${needed}.`,
    )
    return { problem, headers: {} }
  }

  /** Whether the same token is still good. */
  async isAllowed(request: IncomingMessage): Promise<boolean> {
    return (await this.#callerOf(request)) !== undefined
  }

  async #callerOf(request: IncomingMessage): Promise<Caller | undefined> {
    const header = request.headers.authorization ?? ''
    const [, token = ''] = header.length > LONGEST_HEADER ? [] : (/^Bearer ([\w.-]+)$/i.exec(header) ?? [])
    try {
      const facts = await this.#deps.tokens.check(token)
      return facts === undefined ? undefined : { name: facts.name, role: facts.role, via: request.socket.remoteAddress ?? 'unknown' }
    } catch (error) {
      this.#deps.log.error('a token could not be checked', { error: toAgentError(error).message })
      return undefined
    }
  }

  async #refused(request: IncomingMessage, id: string, who: { by: string; via: string; code: string; role?: Role }): Promise<void> {
    const action = `${request.method ?? ''} ${request.url ?? ''}`.slice(0, 300)
    try {
      await this.#deps.audit.write({ id, action, outcome: 'refused', ...who })
    } catch (error) {
      this.#deps.log.error('a refused call could not be written into the audit log', { error: toAgentError(error).message })
    }
  }
}
