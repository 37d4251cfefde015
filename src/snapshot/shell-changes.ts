import { AgentError, type MoRef } from '../core/index.ts'
import { notConfigured, type SshConnection, type SshHosts } from '../ssh/index.ts'
import { type CallOptions, endpointName, isFault, retrieveOne, vmMoRef, type Vsphere } from '../vsphere/index.ts'
import type { SnapshotChanges } from './snapshot-changes.ts'
import { createInShell, removeInShell, requireVm } from './vim-cmd.ts'

/**
 * With `vim-cmd` in the shell of the standalone host that `vsphere` is: it asks the host's own service, which the licence does not bind. Before each
 * change the shell proves that it is that host, by the VM's instance uuid. It cannot consolidate: that is left to the Host Client.
 */
export function shellChanges(vsphere: Vsphere, hosts: SshHosts): SnapshotChanges {
  const shellOf = async (vm: MoRef, options?: CallOptions): Promise<SshConnection> => {
    const connection = await hosts.connect(await shellName(vsphere, hosts, vm, options), { signal: options?.signal, apart: true })
    const { props } = await retrieveOne(vsphere, vm, ['config.instanceUuid'], options)
    await requireVm(connection, vm, props.get('config.instanceUuid')?.text ?? '', options)
    return connection
  }
  return Object.freeze<SnapshotChanges>({
    create: async (vm, spec, options) => createInShell(await shellOf(vmMoRef(vm), options), vmMoRef(vm), spec, options),
    remove: async (vm, node, options) => removeInShell(await shellOf(vm.moref, options), vm.moref, node, options),
    consolidate: async (_vm, options) => {
      throw new AgentError(
        'CONFLICT',
        `${options?.subject ?? 'The VM'} needs consolidation, which the licence of ${vsphere.host} keeps from its API and vim-cmd cannot do.`,
        {
          subject: options?.subject,
          next: 'Consolidate its disks in the Host Client (Snapshots > Consolidate disks), then run "vcb recover".',
          retry: 'never',
        },
      )
    },
  })
}

/**
 * `api`, and `shell` once the API has said RestrictedVersion: a refusal before anything was done. Where no shell is configured the refusal stands.
 * `hasShell` is asked then.
 */
export function shellWhereRestricted(api: SnapshotChanges, shell: SnapshotChanges, hasShell: () => boolean): SnapshotChanges {
  let restricted = false
  const by = async (work: (changes: SnapshotChanges) => Promise<void>): Promise<void> => {
    if (restricted) return work(shell)
    try {
      await work(api)
    } catch (error) {
      if (!isFault(error, 'RestrictedVersion') || !hasShell()) throw error
      restricted = true
      await work(shell)
    }
  }
  return Object.freeze<SnapshotChanges>({
    create: (vm, spec, options) => by((changes) => changes.create(vm, spec, options)),
    remove: (vm, node, options) => by((changes) => changes.remove(vm, node, options)),
    consolidate: (vm, options) => by((changes) => changes.consolidate(vm, options)),
  })
}

/** How the shell of the one host of this endpoint is configured: by the host's own name, or by the one it is reached under. CONFIG. */
async function shellName(vsphere: Vsphere, hosts: SshHosts, vm: MoRef, options?: CallOptions): Promise<string> {
  if (vsphere.about.kind !== 'esxi') {
    throw new AgentError('CONFIG', `Snapshots are to be made in the shell of the host, but ${vsphere.host} is no host.`, {
      subject: vsphere.host,
      next: 'Connect to the host itself, or take "snapshots: ssh" out of vcb.yaml.',
    })
  }
  const { props } = await retrieveOne(vsphere, vm, ['runtime.host'], options)
  const host = props.get('runtime.host')?.asRef()
  const name = host === undefined ? undefined : (await retrieveOne(vsphere, host, ['name'], options)).props.get('name')?.text
  const found = (name === undefined ? undefined : hosts.find(name)) ?? hosts.find(endpointName(vsphere))
  if (found === undefined) throw notConfigured(name ?? endpointName(vsphere))
  return found.name
}
