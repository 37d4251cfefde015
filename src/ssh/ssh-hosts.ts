import { type Abortable, AgentError, toAgentError, unlessAborted } from '../core/index.ts'
import { SshConnection } from './connection.ts'
import type { SshDeps, SshHost } from './ssh-host.ts'

/**
 * The hosts whose shell may be used, each with one connection, made when it is first wanted and shared by everybody. Made once by the composition
 * root, whose end closes them.
 */
export interface SshHosts extends AsyncDisposable {
  /** How the host that vSphere calls `name` is reached; undefined when its shell is not configured. No connection is made. */
  find(name: string): SshHost | undefined
  /** Those that are listed. */
  readonly all: readonly SshHost[]
  /**
   * The host's connection; one that broke is replaced. It stays this object's to close. `apart`: the one for commands, whose sessions no reading
   * takes up. CONFIG (not configured), else as `dialSsh`.
   */
  connect(name: string, options?: Abortable & { readonly apart?: boolean | undefined }): Promise<SshConnection>
}

/** `byDefault` makes a host of a name that is not listed. */
export function createSshHosts(hosts: readonly SshHost[], deps: SshDeps, byDefault?: (name: string) => SshHost): SshHosts {
  const known = new Map(hosts.map((host) => [host.name.toLowerCase(), host]))
  const open = new Map<string, Shared>()
  const find = (name: string): SshHost | undefined => known.get(name.toLowerCase()) ?? byDefault?.(name)
  return Object.freeze({
    find,
    all: hosts,
    async connect(name: string, options?: Parameters<SshHosts['connect']>[1]): Promise<SshConnection> {
      const host = find(name)
      if (host === undefined) throw notConfigured(name)
      const key = `${options?.apart === true ? 'commands ' : ''}${host.name.toLowerCase()}`
      let shared = open.get(key)
      if (shared === undefined || shared.broken) {
        // Its opening is nobody's alone: one caller that is canceled does not end it for the others.
        shared = new Shared(SshConnection.open(host, deps))
        open.set(key, shared)
      }
      return unlessAborted(shared.opening, options?.signal)
    },
    async [Symbol.asyncDispose]() {
      const last = [...open.values()]
      open.clear()
      await Promise.all(last.map((shared) => shared.close()))
    },
  })
}

export const notConfigured = (name: string): AgentError =>
  new AgentError('CONFIG', `SSH to ${name} is not configured.`, {
    subject: name,
    next: `Write ssh.hosts."${name}" with user, keyFile or passwordFile, and hostKey into vcb.yaml.`,
  })

class Shared {
  readonly opening: Promise<SshConnection>
  #connection: SshConnection | undefined
  #failed: AgentError | undefined

  constructor(opening: Promise<SshConnection>) {
    this.opening = opening
    void this.#follow()
  }

  get broken(): boolean {
    return this.#failed !== undefined || this.#connection?.lost.aborted === true
  }

  async #follow(): Promise<void> {
    try {
      this.#connection = await this.opening
    } catch (error) {
      this.#failed = toAgentError(error)
    }
  }

  async close(): Promise<void> {
    const connection = await this.opening.catch(() => undefined) // whoever opened it was told
    await connection?.[Symbol.asyncDispose]()
  }
}
