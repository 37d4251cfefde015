import { apiChanges, shellChanges, shellWhereRestricted, type SnapshotChanges } from '../snapshot/index.ts'
import type { SshHosts } from '../ssh/index.ts'
import { endpointName, type Vsphere } from '../vsphere/index.ts'
import type { SshConfig } from './config/ssh.ts'

/** Who changes snapshots at a server, as `ssh.snapshots` of vcb.yaml says: by itself the shell is taken only where the API of a host is read-only. */
export function snapshotChangesOf({ snapshots }: SshConfig, hosts: SshHosts): (vsphere: Vsphere) => SnapshotChanges {
  return (vsphere) => {
    if (snapshots === 'api') return apiChanges(vsphere)
    const shell = shellChanges(vsphere, hosts)
    if (snapshots === 'ssh') return shell
    const hasShell = (): boolean => hosts.all.length > 0 || hosts.find(endpointName(vsphere)) !== undefined
    return vsphere.about.kind === 'esxi' ? shellWhereRestricted(apiChanges(vsphere), shell, hasShell) : apiChanges(vsphere)
  }
}
