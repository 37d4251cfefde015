import { type Abortable, toAgentError, type Verdict } from '../core/index.ts'
import { missingPrivileges, type Vsphere, vmMoRef } from '../vsphere/index.ts'
import { streamSource } from './lease-source.ts'
import { openLeaseStream } from './lease-stream.ts'
import type { OpenDisk, OpenOptions, SnapshotDisk, Transport } from './transport.ts'
import { hasFile } from './verify-disk.ts'

const PRIVILEGE = 'VApp.Export'

/**
 * Reads a whole disk as the stream-optimized file that an export lease (ExportSnapshot) sends, straight from the host. Works wherever vSphere can
 * export the VM, over HTTPS alone; always reads everything allocated, so it is no way to an incremental. One lease a VM at a time: it is taken per
 * opened disk and given back with it.
 */
export function leaseTransport(vsphere: Vsphere): Transport {
  return {
    name: 'lease',
    wholeDisks: true,
    handles: hasFile,
    async probe(disk: SnapshotDisk, options?: Abortable): Promise<Verdict> {
      const handled = hasFile(disk.disk)
      if (!handled.ok) return handled
      if (disk.wanted === 'changed') return { ok: false, reason: 'an export lease sends whole disks, and only changed areas are wanted' }
      try {
        const missing = await missingPrivileges(vsphere, vmMoRef(disk.config.vm), [PRIVILEGE], options)
        if (missing?.length === 1) return { ok: false, reason: `the user lacks ${PRIVILEGE} on ${disk.config.vm.name}` }
        return { ok: true, note: `export lease from ${vsphere.host}` }
      } catch (error) {
        const shown = toAgentError(error)
        if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
        return { ok: false, reason: shown.message }
      }
    },
    async open(disk: SnapshotDisk, options: OpenOptions = {}): Promise<OpenDisk> {
      // Begun again after the caller's call has ended, so not with its signal.
      const begin = (abort?: Abortable) => openLeaseStream(vsphere, disk, { ...abort, claims: options.claims })
      const { label, capacityBytes } = disk.disk
      const first = await begin(options)
      return streamSource(first, { size: capacityBytes, label, log: vsphere.log, restart: () => begin() })
    },
  }
}
