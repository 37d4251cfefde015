import { z } from 'zod'
import type { SecretSource } from './secret-source.ts'

const login = {
  port: z.int().min(1).max(65_535).optional(),
  user: z.string().min(1).optional(),
  keyFile: z.string().optional(),
  passphraseFile: z.string().optional(),
  passphraseEnv: z.string().optional(),
  passwordFile: z.string().optional(),
  passwordEnv: z.string().optional(),
  knownHosts: z.string().optional(),
} as const

const fingerprint = z.string().regex(/^SHA256:[A-Za-z0-9+/]{43}=?$/, 'a fingerprint is SHA256: and 43 letters, as ssh-keygen -l prints it')

/** One host, or a guest that runs scripts. */
export const guestSshSchema = z.strictObject({
  ...login,
  address: z.string().min(1).optional(),
  hostKey: z.union([fingerprint, z.array(fingerprint).min(1)]).optional(),
})

/** `ssh` of vcb.yaml. `default` holds for hosts that are listed, and, with `knownHosts`, makes every other host one that may be tried. */
export const sshSchema = z.strictObject({
  hosts: z.record(z.string().min(1), guestSshSchema).optional(),
  default: z.strictObject(login).optional(),
  /** Who takes the snapshots: `auto` = the API, or the host's shell where its licence lets the API only show. */
  snapshots: z.enum(['auto', 'api', 'ssh']).optional(),
})

/** How one host's shell is reached; paths are absolute. */
export type SshHostConfig = {
  readonly name: string
  readonly address: string
  readonly port: number
  readonly user: string
  readonly keyFile: string | undefined
  readonly passphrase: SecretSource
  readonly password: SecretSource
  readonly fingerprints: readonly string[]
  readonly knownHosts: string | undefined
}

export type SshConfig = {
  readonly hosts: readonly SshHostConfig[]
  /** For a host that is not listed; undefined when there is no way to know its key. */
  readonly byDefault: ((name: string) => SshHostConfig) | undefined
  readonly snapshots: 'auto' | 'api' | 'ssh'
}

type File = z.infer<typeof sshSchema>
type HostFile = NonNullable<File['hosts']>[string]

export function sshConfigOf(
  file: File | undefined,
  environment: Readonly<Record<string, string | undefined>>,
  local: (path: string) => string,
): SshConfig {
  const defaults = file?.default ?? {}
  const path = (value: string | undefined): string | undefined => (value === undefined || value === '-' ? value : local(value))
  const secret = (inFile: string | undefined, variable: string | undefined): SecretSource =>
    variable === undefined ? { file: path(inFile) } : { env: variable, value: environment[variable] }
  const hostOf = (name: string, own: HostFile): SshHostConfig => {
    const hasLogin = own.keyFile !== undefined || own.passwordFile !== undefined || own.passwordEnv !== undefined
    const by = hasLogin ? own : defaults
    return Object.freeze({
      name,
      address: own.address ?? name,
      port: own.port ?? defaults.port ?? 22,
      user: own.user ?? defaults.user ?? 'root',
      keyFile: path(by.keyFile),
      passphrase: secret(by.passphraseFile, by.passphraseEnv),
      password: secret(by.passwordFile, by.passwordEnv),
      fingerprints: own.hostKey === undefined ? [] : typeof own.hostKey === 'string' ? [own.hostKey] : own.hostKey,
      knownHosts: path(own.knownHosts ?? defaults.knownHosts),
    })
  }
  return Object.freeze({
    hosts: Object.entries(file?.hosts ?? {}).map(([name, own]) => hostOf(name, own)),
    byDefault: defaults.knownHosts === undefined ? undefined : (name: string) => hostOf(name, {}),
    snapshots: file?.snapshots ?? 'auto',
  })
}
