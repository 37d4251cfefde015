import type { Abortable, Clock, Log, Secret } from '../core/index.ts'
import type { HostKeyPin } from './host-key.ts'

/** How a host's shell is logged in to. The password also answers keyboard-interactive, which is how ESXi asks for it. */
export type SshLogin =
  | { readonly password: Secret }
  | { readonly key: { readonly path: string; readonly text: Secret; readonly passphrase?: Secret | undefined } }

/** A host whose shell may be used. */
export type SshHost = {
  /** As vSphere names the host. */
  readonly name: string
  readonly address: string
  readonly port: number
  readonly user: string
  /** Secrets and pins are read when the first connection is made. CONFIG, USAGE. */
  readonly login: (options?: Abortable) => Promise<SshLogin>
  readonly pin: (options?: Abortable) => Promise<HostKeyPin>
  /** Where in vcb.yaml its key is pinned, for messages; `ssh.hosts."NAME"` when absent. */
  readonly pinnedIn?: string | undefined
}

export type SshDeps = { readonly clock: Clock; readonly log: Log }
