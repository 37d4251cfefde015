import { z } from 'zod'
import { AgentError, type Clock, type Log } from '../core/index.ts'
import { globMatcher } from '../inventory/index.ts'
import { guestOperationsShell, GuestScripts, sshShell } from '../quiesce/index.ts'
import { vmMoRef } from '../vsphere/index.ts'
import { duration } from './quantity.ts'
import { readSecret, type SecretSource } from './secret-source.ts'
import { guestSshSchema, sshConfigOf, type SshHostConfig } from './ssh-config.ts'
import { sshHostsOf } from './ssh-hosts.ts'

const MINUTE_MS = 60_000

/** A path in a guest, in the guest's own form. */
const guestPath = z.string().regex(/^(\/|[A-Za-z]:\\)[^\0\r\n]*$/, 'a script in a guest is named by an absolute path')

/** `guestScripts` of vcb.yaml: the first entry whose pattern fits a VM's name counts. */
export const guestScriptsSchema = z.array(
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
  file: z.output<typeof guestScriptsSchema> | undefined,
  environment: Readonly<Record<string, string | undefined>>,
  local: (path: string) => string,
): readonly GuestScriptConfig[] {
  return (file ?? []).map((entry): GuestScriptConfig => {
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
          ? { file: passwordFile === undefined || passwordFile === '-' ? passwordFile : local(passwordFile) }
          : { env: passwordEnv, value: environment[passwordEnv] },
      ssh: (vm) => {
        const [host] = sshConfigOf({ hosts: { [vm]: entry.ssh ?? {} } }, environment, local).hosts
        if (host === undefined) throw new AgentError('INTERNAL', `The guest scripts "${entry.vms.join(' ')}" have no SSH.`)
        return host
      },
    })
  })
}

/** The scripts of all VMs; connections to guests are opened when the first one runs and closed with `stack`. */
export function createGuestScripts(
  configs: readonly GuestScriptConfig[],
  deps: { readonly clock: Clock; readonly log: Log },
  stack: AsyncDisposableStack,
): GuestScripts {
  const hosts = new Map(
    configs.map((config) => [config.name, stack.use(sshHostsOf({ hosts: [], byDefault: config.ssh, snapshots: 'auto' }, deps))]),
  )
  return new GuestScripts({
    ...deps,
    rules: configs.map(({ patterns, ...rule }) => {
      const fits = patterns.map((pattern) => globMatcher(pattern))
      return { ...rule, matches: (vm: string) => fits.some((fit) => fit(vm)) }
    }),
    open: async (pair, vsphere) => {
      const config = configs.find(({ name }) => name === pair.rule)
      const ssh = hosts.get(pair.rule)
      if (config === undefined || ssh === undefined) {
        throw new AgentError('CONFIG', `The guest scripts "${pair.rule}" are not configured any more.`, {
          subject: pair.vm.name,
          next: 'Write them into vcb.yaml again, so that the post-thaw script can be run, then run "vcb recover".',
        })
      }
      if (pair.via === 'ssh') return sshShell((options) => ssh.connect(pair.vm.name, options), pair.vm.name)
      if (vsphere === undefined) throw new AgentError('INTERNAL', 'Guest operations need a vCenter.')
      const password = await readSecret(config.password, `guest password for ${pair.vm.name}`, 'guestScripts passwordFile')
      return guestOperationsShell(vsphere, { vm: vmMoRef(pair.vm), user: config.user, password }, pair.windows, pair.vm.name)
    },
  })
}
