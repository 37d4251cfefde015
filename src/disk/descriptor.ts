/** Kinds of extent lines. `FLAT` and `VMFS` are raw, `SPARSE` is KDMV, `VMFSSPARSE` COWD, `SESPARSE` seSparse. */
export const EXTENT_TYPES = ['FLAT', 'VMFS', 'SPARSE', 'ZERO', 'VMFSSPARSE', 'SESPARSE', 'VSANSPARSE', 'VMFSRDM', 'VMFSRAW'] as const
export type ExtentType = (typeof EXTENT_TYPES)[number]

/** One extent line. Sectors are 512 bytes. */
export type DescriptorExtent = {
  readonly access: 'RW' | 'RDONLY' | 'NOACCESS'
  readonly sectors: number
  readonly type: ExtentType
  /** As written; undefined for ZERO. */
  readonly file?: string | undefined
  /** Sectors into the file; only FLAT lines carry one. */
  readonly offset?: number | undefined
}

/** A VMDK text descriptor. Keys are kept as written; looking them up ignores case. */
export type Descriptor = {
  /** 1 normal, 2 hosted encryption-capable, 3 change tracking is on. */
  readonly version: 1 | 2 | 3
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
  /** Further header keys, in order, verbatim. */
  readonly others: ReadonlyMap<string, string>
  /** `ddb.*` keys without quotes, in order, verbatim. */
  readonly ddb: ReadonlyMap<string, string>
}

/** The value of CID fields that means "none". */
export const NO_PARENT = 'ffffffff'
