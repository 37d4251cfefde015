import type { LabObject, LabValue } from '../wire/index.ts'
import { hasQuirk, type Lease } from './lease-record.ts'
import type { VmRecord } from './record.ts'
import type { View } from './view.ts'

export type LeaseHost = {
  /** `https://host:port` that the device URLs name; `https://*` on ESXi. */
  readonly base: () => string
  /** SHA-1 thumbprint of the server behind the URLs. */
  readonly sslThumbprint: () => string
}

/** Through which endpoint a lease is shown. */
export type LeaseView = { readonly view: View; readonly host: LeaseHost; readonly timeoutSeconds: number }

/** A property of a lease, as its endpoint shows it. */
export function leaseProperty(lease: Lease, name: string, shown: LeaseView): LabValue {
  switch (name) {
    case 'state':
      return lease.state
    case 'initializeProgress':
      return lease.state === 'initializing' ? 0 : 100
    case 'transferProgress':
      return lease.progress
    case 'mode':
      return 'pushOrGet'
    case 'capabilities':
      return { $type: 'HttpNfcLeaseCapabilities', pullModeSupported: false, corsSupported: false }
    case 'error':
      return lease.error?.localized
    case 'info':
      return lease.state === 'initializing' || lease.vm === undefined ? undefined : leaseInfo(lease, lease.vm, shown)
    default:
      return undefined
  }
}

function leaseInfo(lease: Lease, vm: VmRecord, { view, host, timeoutSeconds }: LeaseView): LabObject {
  const path = view.kind === 'esxi' ? 'ha-nfc' : 'nfc'
  return {
    $type: 'HttpNfcLeaseInfo',
    lease: lease.ref,
    entity: view.vmRef(vm),
    deviceUrl: lease.transfers.map((transfer) => ({
      $type: 'HttpNfcLeaseDeviceUrl',
      key: transfer.key,
      importKey: transfer.importKey,
      url: `${host.base()}/${path}/${lease.id}/${transfer.name}`,
      sslThumbprint: hasQuirk(lease.quirks, 'wrongThumbprint') ? Array(20).fill('AB').join(':') : host.sslThumbprint(),
      disk: true,
      targetId: transfer.name,
      datastoreKey: '1',
    })),
    totalDiskCapacityInKB: Math.ceil(lease.transfers.reduce((sum, transfer) => sum + transfer.disk.capacity, 0) / 1024),
    leaseTimeout: timeoutSeconds,
    hostMap: [],
  }
}

/** What was counted and hashed of each disk that went through whole. */
export function leaseManifest(lease: Lease): LabObject[] {
  return lease.transfers.flatMap((transfer): LabObject[] => {
    if (transfer.done === undefined) return []
    const type = lease.checksums.get(transfer.key)
    return [
      {
        $type: 'HttpNfcLeaseManifestEntry',
        key: transfer.key,
        sha1: transfer.done.sha1,
        checksum: type === undefined ? undefined : type === 'sha256' ? transfer.done.sha256 : transfer.done.sha1,
        checksumType: type,
        size: transfer.done.size,
        disk: true,
        capacity: transfer.disk.capacity,
        populatedSize: transfer.done.populated,
      },
    ]
  })
}
