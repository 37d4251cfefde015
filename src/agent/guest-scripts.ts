import { AgentError, type Clock, type Log } from '../core/index.ts'
import { globMatcher } from '../inventory/index.ts'
import { guestOperationsShell, GuestScripts, sshShell } from '../quiesce/index.ts'
import { vmMoRef } from '../vsphere/index.ts'
import type { GuestScriptConfig } from './config/guest-scripts.ts'
import { readSecret } from './config/secret-source.ts'
import { sshHostsOf } from './ssh-hosts.ts'

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
