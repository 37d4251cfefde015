import type { Abortable } from '../core/index.ts'
import type { LeaseDevice, NfcLease } from './nfc-lease.ts'
import { data } from './vim-data.ts'
import { isFault } from './vim-fault.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

export type ChecksumType = 'sha1' | 'sha256'

/** One HttpNfcLeaseManifestEntry: what the server counted and hashed while it sent or took a file. */
export type ManifestEntry = {
  /** The device's key in the lease. */
  readonly key: string
  /** Hex; SHA-1 always stands in a field of its own. */
  readonly sha1: string
  /** Hex, of `checksumType`; since 6.7, and only where it was asked for. */
  readonly checksum: string | undefined
  readonly checksumType: string | undefined
  /** Bytes of the file as transferred. */
  readonly size: number
  readonly disk: boolean
  /** Bytes of the disk, and of what is populated of it. */
  readonly capacity: number | undefined
  readonly populatedSize: number | undefined
}

/** Asks for SHA-256 of one device, before its transfer. Servers before 6.7 keep SHA-1 alone. */
export async function askSha256(vsphere: Vsphere, lease: NfcLease, device: LeaseDevice, options?: Abortable): Promise<ChecksumType> {
  const deviceUrlsToChecksumTypes = [data({ key: device.key, value: 'sha256' })]
  try {
    await vsphere.call('HttpNfcLeaseSetManifestChecksumType', lease.moref, { deviceUrlsToChecksumTypes }, options)
    return 'sha256'
  } catch (error) {
    if (isFault(error, 'MethodNotFound', 'NotSupported', 'NotImplemented', 'InvalidArgument', 'InvalidRequest')) return 'sha1'
    throw error
  }
}

/** What the server counted and hashed during the transfers; after them and before `complete`. Empty on servers that keep none. */
export async function leaseManifest(vsphere: Vsphere, lease: NfcLease, options?: CallOptions): Promise<readonly ManifestEntry[]> {
  const entries = await vsphere.call('HttpNfcLeaseGetManifest', lease.moref, {}, options)
  return entries.map((entry) => ({
    key: entry.string('key') ?? '',
    sha1: entry.string('sha1') ?? '',
    checksum: entry.string('checksum'),
    checksumType: entry.string('checksumType'),
    size: entry.number('size') ?? 0,
    disk: entry.boolean('disk') ?? false,
    capacity: entry.number('capacity'),
    populatedSize: entry.number('populatedSize'),
  }))
}
