/** Kinds of extent lines. `FLAT` and `VMFS` are raw, `SPARSE` is KDMV, `VMFSSPARSE` COWD, `SESPARSE` seSparse. */
export const EXTENT_TYPES = [
  'FLAT',
  'VMFS',
  'SPARSE',
  'ZERO',
  'VMFSSPARSE',
  'SESPARSE',
  'VSANSPARSE',
  'VMFSRDM',
  'VMFSRDMP',
  'VMFSRAW',
] as const
export type ExtentType = (typeof EXTENT_TYPES)[number]

export const EXTENT_ACCESS = ['RW', 'RDONLY', 'NOACCESS'] as const

/** One extent line. Sectors are 512 bytes. */
export type DescriptorExtent = {
  readonly access: (typeof EXTENT_ACCESS)[number]
  readonly sectors: number
  readonly type: ExtentType
  /** As written; undefined for ZERO. */
  readonly file?: string | undefined
  /** Sectors into the file; FLAT lines carry one. */
  readonly offset?: number | undefined
}

/** A VMDK text descriptor (docs/formats/vmdk-descriptor.md). Keys are kept as written; looking them up ignores case. */
export type Descriptor = {
  /** 1 normal, 2 hosted encryption-capable, 3 change tracking is on. */
  readonly version: 1 | 2 | 3
  /** Of the bytes it was read from; what is written is always UTF-8. */
  readonly encoding: string
  /** 8 lower-case hex digits. */
  readonly cid: string
  /** 8 lower-case hex digits; `ffffffff` = no parent. */
  readonly parentCid: string
  readonly createType: string
  readonly parentFileNameHint?: string | undefined
  readonly changeTrackPath?: string | undefined
  readonly isNativeSnapshot: boolean
  readonly extents: readonly DescriptorExtent[]
  /** Further header keys in order, the value verbatim with its quotes. */
  readonly others: ReadonlyMap<string, string>
  /** `ddb.*` keys in order, values without quotes. */
  readonly ddb: ReadonlyMap<string, string>
}

/** The value of CID fields that means "none". */
export const NO_PARENT = 'ffffffff'

/** Largest descriptor accepted, bytes: about 60,000 extent lines. */
export const MAX_DESCRIPTOR_BYTES = 4 * 1024 * 1024

/** A `ddb.*` value, ignoring the key's case. */
export function ddbValue(descriptor: Descriptor, key: string): string | undefined {
  const direct = descriptor.ddb.get(key)
  if (direct !== undefined) return direct
  const wanted = key.toLowerCase()
  for (const [name, value] of descriptor.ddb) if (name.toLowerCase() === wanted) return value
  return undefined
}

/** Bytes of the disk the extent lines add up to. */
export const descriptorCapacity = (descriptor: Descriptor): number =>
  descriptor.extents.reduce((sum, extent) => sum + extent.sectors, 0) * 512

/** The parent this link stands on: its reference and the CID it must have; undefined for a base disk. */
export function parentOf(descriptor: Descriptor): { readonly reference: string | undefined; readonly cid: string } | undefined {
  if (descriptor.parentCid !== NO_PARENT) return { reference: descriptor.parentFileNameHint, cid: descriptor.parentCid }
  // A native (array-made) snapshot or clone names its parent in the disk data base instead.
  const nativeCid = ddbValue(descriptor, 'ddb.nativeParentCID')?.toLowerCase().padStart(8, '0')
  const nativeHint = ddbValue(descriptor, 'ddb.nativeParentHint')
  if (nativeHint === undefined || nativeHint === '' || nativeCid === undefined || nativeCid === NO_PARENT) return undefined
  return { reference: nativeHint, cid: nativeCid }
}
