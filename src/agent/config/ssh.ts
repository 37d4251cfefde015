import { z } from 'zod'
import type { FileOf, Given } from './given.ts'
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

/** A host key's. */
export const fingerprintSchema = z
  .string()
  .regex(/^SHA256:[A-Za-z0-9+/]{43}=?$/, 'a fingerprint is SHA256: and 43 letters, as ssh-keygen -l prints it')

/** One host, or a guest that runs scripts. */
export const guestSshSchema = z.strictObject({
  ...login,
  address: z.string().min(1).optional(),
  hostKey: z.union([fingerprintSchema, z.array(fingerprintSchema).min(1)]).optional(),
})

/** `default` holds for hosts that are listed, and, with `knownHosts`, makes every other host one that may be tried. */
export const sshKeys = {
  ssh: z
    .strictObject({
      hosts: z.record(z.string().min(1), guestSshSchema).optional(),
      default: z.strictObject(login).optional(),
      /** Who takes the snapshots: `auto` = the API, or the host's shell where its licence lets the API only show. */
      snapshots: z.enum(['auto', 'api', 'ssh']).optional(),
    })
    .optional(),
} as const

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

type HostFile = z.output<typeof guestSshSchema>
type DefaultFile = NonNullable<NonNullable<FileOf<typeof sshKeys>['ssh']>['default']>

export function sshOf({ ssh: file }: FileOf<typeof sshKeys>, given: Given): { readonly ssh: SshConfig } {
  const defaults = file?.default ?? {}
  return {
    ssh: Object.freeze({
      hosts: Object.entries(file?.hosts ?? {}).map(([name, own]) => sshHostOf(name, own, given, defaults)),
      byDefault: defaults.knownHosts === undefined ? undefined : (name: string) => sshHostOf(name, {}, given, defaults),
      snapshots: file?.snapshots ?? 'auto',
    }),
  }
}

/** One host or guest; `defaults` fills in what it does not say, its login as a whole. */
export function sshHostOf(
  name: string,
  own: HostFile,
  { environment, local }: Pick<Given, 'environment' | 'local'>,
  defaults: DefaultFile = {},
): SshHostConfig {
  const path = (value: string | undefined): string | undefined => (value === undefined || value === '-' ? value : local(value))
  const secret = (inFile: string | undefined, variable: string | undefined): SecretSource =>
    variable === undefined ? { file: path(inFile) } : { env: variable, value: environment[variable] }
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
