import { z } from 'zod'
import type { FileOf, Given } from './given.ts'
import { duration } from './quantity.ts'
import type { SecretSource } from './secret-source.ts'
import { guestSshSchema, sshHostOf, type SshHostConfig } from './ssh.ts'

const MINUTE_MS = 60_000

/** A path in a guest, in the guest's own form. */
const guestPath = z.string().regex(/^(\/|[A-Za-z]:\\)[^\0\r\n]*$/, 'a script in a guest is named by an absolute path')

/** `guestScripts` of vcb.yaml: the first entry whose pattern fits a VM's name counts. */
const entries = z.array(
  z
    .strictObject({
      vms: z.array(z.string().min(1)).min(1),
      via: z.enum(['guest-operations', 'ssh']).default('guest-operations'),
      preFreeze: guestPath,
      postThaw: guestPath,
      timeout: duration(100, 60 * MINUTE_MS).optional(),
      policy: z.enum(['require', 'try']).optional(),
      /** Guest operations: who logs in to the guest. */
      user: z.string().min(1).optional(),
      passwordFile: z.string().optional(),
      passwordEnv: z.string().optional(),
      ssh: guestSshSchema.optional(),
    })
    .refine(({ via, user, ssh }) => (via === 'ssh' ? ssh !== undefined : user !== undefined), {
      error: 'guest operations need user and passwordFile, ssh needs ssh with user, keyFile and hostKey',
    }),
)

export const guestScriptsKeys = { guestScripts: entries.optional() } as const

export type GuestScriptConfig = {
  readonly name: string
  readonly patterns: readonly string[]
  readonly via: 'guest-operations' | 'ssh'
  readonly preFreeze: string
  readonly postThaw: string
  readonly timeoutMs: number
  readonly policy: 'require' | 'try' | undefined
  readonly user: string
  readonly password: SecretSource
  /** The guest's SSH server, by the VM's name. */
  readonly ssh: (vm: string) => SshHostConfig
}

export function guestScriptsOf(
  { guestScripts: file }: FileOf<typeof guestScriptsKeys>,
  given: Given,
): { readonly guestScripts: readonly GuestScriptConfig[] } {
  return { guestScripts: (file ?? []).map((entry) => guestScriptOf(entry, given)) }
}

function guestScriptOf(entry: z.output<typeof entries>[number], given: Given): GuestScriptConfig {
  const { passwordFile, passwordEnv } = entry
  return Object.freeze({
    name: entry.vms.join(' '),
    patterns: entry.vms,
    via: entry.via,
    preFreeze: entry.preFreeze,
    postThaw: entry.postThaw,
    timeoutMs: entry.timeout ?? MINUTE_MS,
    policy: entry.policy,
    user: entry.user ?? '',
    password:
      passwordEnv === undefined
        ? { file: passwordFile === undefined || passwordFile === '-' ? passwordFile : given.local(passwordFile) }
        : { env: passwordEnv, value: given.environment[passwordEnv] },
    ssh: (vm) => sshHostOf(vm, entry.ssh ?? {}, given),
  })
}
