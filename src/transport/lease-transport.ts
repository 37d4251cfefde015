import { type Abortable, AgentError, type Verdict, type VmRef } from '../core/index.ts'
import { missingPrivileges, type Vsphere, vmMoRef } from '../vsphere/index.ts'
import { judged } from './judged.ts'
import { streamSource } from './lease-source.ts'
import { openLeaseStream } from './lease-stream.ts'
import type { Tokens } from './buckets.ts'
import { createTokens } from './memory-buckets.ts'
import type { OpenDisk, OpenOptions, PresentDisk, SnapshotDisk, Transport } from './transport.ts'
import { hasFile } from './verify-disk.ts'

const PRIVILEGE = 'VApp.Export'

/**
 * Reads a whole disk as the stream-optimized file that an export lease (ExportSnapshot) sends, straight from the host. Works wherever vSphere can
 * export the VM, over HTTPS alone; always reads everything allocated, so it is no way to an incremental. One lease a VM at a time: it is taken per
 * opened disk and given back with it.
 */
export function leaseTransport(vsphere: Vsphere): Transport {
  const leases = new Map<string, Tokens>()
  /** Disks of one VM that are read side by side wait for each other here: vSphere would refuse the second lease. */
  const leaseOf = ({ moref, name }: VmRef): Tokens => {
    const tokens = leases.get(moref) ?? createTokens(`export leases of ${name}`, 1)
    leases.set(moref, tokens)
    return tokens
  }
  const judge = (disk: PresentDisk, options?: Abortable): Promise<Verdict> =>
    judged(disk, async () => {
      const missing = await missingPrivileges(vsphere, vmMoRef(disk.config.vm), [PRIVILEGE], options)
      if (missing?.length === 1) throw new AgentError('AUTH', `The user lacks ${PRIVILEGE} on ${disk.config.vm.name}.`)
      return `export lease from ${vsphere.host}`
    })
  return {
    name: 'lease',
    wholeDisks: true,
    handles: hasFile,
    probe: async (disk: SnapshotDisk, options?: Abortable) =>
      disk.wanted === 'changed'
        ? { ok: false, reason: 'an export lease sends whole disks, and only changed areas are wanted' }
        : judge(disk, options),
    foresee: judge,
    async open(disk: SnapshotDisk, options: OpenOptions = {}): Promise<OpenDisk> {
      // Begun again after the caller's call has ended, so not with its signal.
      const begin = (abort?: Abortable) => openLeaseStream(vsphere, disk, { ...abort, claims: options.claims })
      const { label, capacityBytes } = disk.disk
      const { vm } = disk.config
      await using stack = new AsyncDisposableStack()
      stack.use(await leaseOf(vm).take({ signal: options.signal, onWait: options.onWait, holder: label }))
      const first = await begin(options)
      const turn = stack.move()
      return streamSource(first, {
        size: capacityBytes,
        label,
        log: vsphere.log,
        restart: () => begin(),
        closed: () => turn.disposeAsync(),
      })
    },
  }
}
