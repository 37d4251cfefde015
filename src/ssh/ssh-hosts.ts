import { type Abortable, AgentError, throwIfAborted, unlessAborted } from '../core/index.ts'
import { SshConnection } from './connection.ts'
import type { SshDeps, SshHost } from './ssh-host.ts'

/** A use of a host's connection, ended by disposal; the connection ends with its last use. */
export type SshLease = AsyncDisposable & { readonly connection: SshConnection }

/** The hosts whose shell may be used, with one connection each while somebody uses it. Made once by the composition root. */
export interface SshHosts {
  /** How the host that vSphere calls `name` is reached; undefined when its shell is not configured. No connection is made. */
  find(name: string): SshHost | undefined
  readonly all: readonly SshHost[]
  /** The host's connection, made when there is none; one that broke is replaced. CONFIG (not configured), else as `dialSsh`. */
  connect(name: string, options?: Abortable): Promise<SshLease>
}

/** `byDefault` makes a host of a name that is not listed. */
export function createSshHosts(hosts: readonly SshHost[], deps: SshDeps, byDefault?: (name: string) => SshHost): SshHosts {
  const known = new Map(hosts.map((host) => [host.name.toLowerCase(), host]))
  const open = new Map<string, Shared>()
  const find = (name: string): SshHost | undefined => known.get(name.toLowerCase()) ?? byDefault?.(name)
  return Object.freeze({
    find,
    all: hosts,
    async connect(name: string, options?: Abortable): Promise<SshLease> {
      const host = find(name)
      if (host === undefined) throw notConfigured(name)
      const key = host.name.toLowerCase()
      let shared = open.get(key)
      if (shared === undefined || shared.broken) {
        shared = new Shared(SshConnection.open(host, deps))
        open.set(key, shared)
      }
      const taken = shared
      return taken.lease(options, () => {
        if (open.get(key) === taken) open.delete(key)
      })
    },
  })
}

export const notConfigured = (name: string): AgentError =>
  new AgentError('CONFIG', `SSH to ${name} is not configured.`, {
    subject: name,
    next: `Write ssh.hosts."${name}" with user, keyFile or passwordFile, and hostKey into vcb.yaml.`,
  })

/** One connection for several users. Its opening is nobody's alone: one that is canceled does not end it for the others. */
class Shared {
  readonly #opening: Promise<SshConnection>
  #connection: SshConnection | undefined
  #failed = false
  #uses = 0

  constructor(opening: Promise<SshConnection>) {
    this.#opening = opening
    opening.then(
      (connection) => {
        this.#connection = connection
      },
      () => {
        this.#failed = true
      },
    )
  }

  get broken(): boolean {
    return this.#failed || this.#connection?.lost.aborted === true
  }

  async lease(options: Abortable | undefined, forget: () => void): Promise<SshLease> {
    this.#uses++
    try {
      const connection = await unlessAborted(this.#opening, options?.signal)
      let used = true
      return {
        connection,
        [Symbol.asyncDispose]: async () => {
          if (!used) return
          used = false
          await this.#leave(forget)
        },
      }
    } catch (error) {
      // Whoever was canceled does not wait for a connection that nobody else wants to come and go.
      void this.#leave(forget)
      throwIfAborted(options)
      throw error
    }
  }

  async #leave(forget: () => void): Promise<void> {
    if (--this.#uses > 0) return
    forget()
    const connection = await this.#opening.catch(() => undefined) // whoever opened it was told
    await connection?.[Symbol.asyncDispose]()
  }
}
