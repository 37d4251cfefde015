import type { ServerResponse } from 'node:http'
import type { LabRef, LabSession, VimFault } from '../wire/index.ts'
import type { FaultRule } from './fault-rules.ts'
import type { LeaseQuirk } from './lease-quirks.ts'
import type { DiskRecord, SnapshotRecord, VmRecord } from './record.ts'

/** One disk of a lease, and what became of its bytes. */
export type Transfer = {
  readonly disk: DiskRecord
  readonly name: string
  readonly key: string
  readonly importKey: string
  done: { size: number; sha1: string; sha256: string; populated: number } | undefined
}

/** An export or import lease while the lab runs. */
export type Lease = {
  readonly ref: LabRef
  readonly id: string
  readonly kind: 'export' | 'import'
  readonly owner: LabSession
  readonly snapshot: SnapshotRecord | undefined
  vm: VmRecord | undefined
  state: 'initializing' | 'ready' | 'done' | 'error'
  error: VimFault | undefined
  progress: number
  lastSign: number
  transfers: Transfer[]
  readonly checksums: Map<string, string>
  readonly dispose: (vm: VmRecord) => Promise<void>
  /** Answers that are being sent; cut when the lease ends. */
  readonly sending: Set<ServerResponse>
  /** What the rules want of it from its beginning. */
  readonly quirks: readonly FaultRule[]
  /** Ends the task that shows the lease. */
  onEnd: (fault: VimFault | undefined) => void
}

export const hasQuirk = (rules: readonly FaultRule[], quirk: LeaseQuirk): boolean => rules.some((rule) => rule.lease === quirk)

export const isOpen = (lease: Lease): boolean => lease.state === 'initializing' || lease.state === 'ready'

export const transferOf = (disk: DiskRecord, index: number, key: string, importKey: string): Transfer => ({
  disk,
  name: `disk-${index}.vmdk`,
  key,
  importKey,
  done: undefined,
})

/** `VirtualLsiLogicController0:1`-like names, from `scsi0:1`. */
export const controllerName = (label: string): string => {
  const kind = {
    scsi: 'ParaVirtualSCSIController',
    sata: 'VirtualAHCIController',
    nvme: 'VirtualNVMEController',
    ide: 'VirtualIDEController',
  }[label.replace(/\d.*$/, '')]
  return `${kind ?? 'VirtualController'}${label.replace(/^\D+/, '')}`
}
