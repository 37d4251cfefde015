import { hash } from 'node:crypto'
import { AgentError, isSafeFileName, SECTOR } from '../core/index.ts'
import { type Descriptor, type DescriptorExtent, NO_PARENT } from './descriptor.ts'

/** What a new disk's descriptor tells besides its extents. */
export type DiskLook = {
  /** `ddb.adapterType`: ide, buslogic, lsilogic (default; also for pvscsi), legacyESX. */
  readonly adapterType?: string | undefined
  /** `ddb.uuid`, `60 00 C2 9x …`; left out when unknown, the host then makes one. */
  readonly uuid?: string | undefined
  /** `ddb.virtualHWVersion`; default 14. */
  readonly hardwareVersion?: number | undefined
  /** vmfs only: `ddb.thinProvisioned`. Default true. */
  readonly thin?: boolean | undefined
  /** 8 hex digits; derived from name and size otherwise, so that the same disk gives the same bytes. */
  readonly cid?: string | undefined
}

/** The descriptor of a new base disk. Errors: USAGE. */
export function newDescriptor(
  name: string,
  size: number,
  createType: string,
  extents: readonly DescriptorExtent[],
  look: DiskLook,
): Descriptor {
  const cid = look.cid ?? hash('sha256', `${name}\0${size}`).slice(0, 8)
  if (!/^[0-9a-f]{8}$/u.test(cid) || cid === NO_PARENT || cid === 'fffffffe') {
    throw new AgentError('USAGE', `The CID ${JSON.stringify(cid)} is not 8 lower-case hex digits.`)
  }
  const adapter = look.adapterType ?? 'lsilogic'
  const [heads, sectors, most] = adapter === 'ide' ? [16, 63, 16_383] : [255, 63, 2 ** 31 - 1]
  const ddb = new Map([
    ['ddb.adapterType', adapter],
    ['ddb.geometry.cylinders', String(Math.min(most, Math.max(1, Math.floor(size / SECTOR / (heads * sectors)))))],
    ['ddb.geometry.heads', String(heads)],
    ['ddb.geometry.sectors', String(sectors)],
    // Its last 8 digits are the CID.
    ['ddb.longContentID', `${hash('sha256', `${cid}\0${name}\0${size}`).slice(0, 24)}${cid}`],
    ...(createType === 'vmfs' && look.thin !== false ? ([['ddb.thinProvisioned', '1']] as const) : []),
    ['ddb.toolsVersion', '2147483647'],
    ...(look.uuid === undefined ? [] : ([['ddb.uuid', look.uuid]] as const)),
    ['ddb.virtualHWVersion', String(look.hardwareVersion ?? 14)],
  ])
  return Object.freeze({
    version: 1,
    encoding: 'UTF-8',
    cid,
    parentCid: NO_PARENT,
    createType,
    isNativeSnapshot: false,
    extents: Object.freeze([...extents]),
    others: new Map<string, string>(),
    ddb,
  })
}

/** Refuses names that are not one plain file name, and sizes that are not whole sectors. Errors: USAGE. */
export function checkNewDisk(name: string, size: number): void {
  if (!isSafeFileName(name)) {
    throw new AgentError('USAGE', `${JSON.stringify(name.slice(0, 300))} cannot be the name of a disk file.`, {
      next: 'Choose a plain file name.',
    })
  }
  if (!Number.isSafeInteger(size) || size <= 0 || size % SECTOR !== 0) {
    throw new AgentError('USAGE', `A virtual disk of ${size} bytes cannot be written; it must have whole sectors of 512 bytes.`)
  }
}
