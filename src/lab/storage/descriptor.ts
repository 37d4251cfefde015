import { readFileSync, statSync } from 'node:fs'
import { SECTOR } from '../../core/index.ts'
import { type Datastore, replaceFile } from './datastore.ts'
import { LabStorageError, translated } from './storage-error.ts'

export type ExtentLine = { readonly access: string; readonly sectors: number; readonly type: string; readonly file: string }

/** What one descriptor says. `ddb` keeps unknown keys and their order. */
export type Descriptor = {
  readonly version: number
  readonly cid: string
  readonly parentCid: string
  readonly createType: string
  readonly parentHint?: string | undefined
  readonly extents: readonly ExtentLine[]
  readonly changeTrackPath?: string | undefined
  readonly ddb: ReadonlyMap<string, string>
}

export const NO_PARENT = 'ffffffff'
const MAX_BYTES = 64 * 1024

/** Text in the shape ESXi writes it; LF line ends, UTF-8. */
export function formatDescriptor(descriptor: Descriptor): string {
  const lines = [
    '# Disk DescriptorFile',
    `version=${descriptor.version}`,
    'encoding="UTF-8"',
    `CID=${descriptor.cid}`,
    `parentCID=${descriptor.parentCid}`,
    'isNativeSnapshot="no"',
    `createType="${descriptor.createType}"`,
  ]
  if (descriptor.parentHint !== undefined) lines.push(`parentFileNameHint="${descriptor.parentHint}"`)
  lines.push('', '# Extent description')
  for (const extent of descriptor.extents) lines.push(`${extent.access} ${extent.sectors} ${extent.type} "${extent.file}"`)
  if (descriptor.changeTrackPath !== undefined) {
    lines.push('', '# Change Tracking File', `changeTrackPath="${descriptor.changeTrackPath}"`)
  }
  lines.push('', '# The Disk Data Base ', '#DDB', '')
  for (const [key, value] of descriptor.ddb) lines.push(`${key} = "${value}"`)
  return `${lines.join('\n')}\n`
}

/** Reads what `formatDescriptor`, ESXi or a restore wrote. InvalidDisk. */
export function parseDescriptor(text: string, subject: string): Descriptor {
  const keys = new Map<string, string>()
  const ddb = new Map<string, string>()
  const extents: ExtentLine[] = []
  for (const raw of text.split(/\r?\n/)) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const extent = /^(RW|RDONLY|NOACCESS)\s+(\d+)\s+([A-Z]+)(?:\s+"(.*)"(?:\s+0)?)?$/.exec(line)
    if (extent !== null) {
      const [, access = '', sectors = '', type = '', file = ''] = extent
      extents.push({ access, sectors: Number(sectors), type, file })
      continue
    }
    const pair = /^([A-Za-z][\w.]*)\s*=\s*(?:"(.*)"|(.*))$/.exec(line)
    if (pair === null) throw new LabStorageError('InvalidDisk', `The descriptor ${subject} has a line that means nothing.`, subject)
    const [, key = '', quoted, plain = ''] = pair
    if (key.startsWith('ddb.')) ddb.set(key, quoted ?? plain)
    else keys.set(key.toLowerCase(), quoted ?? plain)
  }
  const version = Number(keys.get('version'))
  const cid = keys.get('cid')?.toLowerCase()
  const createType = keys.get('createtype')
  const sane = extents.every((extent) => Number.isSafeInteger(extent.sectors * SECTOR)) && extents.length > 0
  if (!(version >= 1 && version <= 3) || cid === undefined || !/^[0-9a-f]{1,8}$/.test(cid) || createType === undefined || !sane) {
    throw new LabStorageError('InvalidDisk', `${subject} is not a virtual disk descriptor.`, subject)
  }
  return {
    version,
    cid: cid.padStart(8, '0'),
    parentCid: (keys.get('parentcid') ?? NO_PARENT).toLowerCase().padStart(8, '0'),
    createType,
    parentHint: keys.get('parentfilenamehint'),
    extents,
    changeTrackPath: keys.get('changetrackpath'),
    ddb,
  }
}

export function readDescriptor(datastore: Datastore, path: string): Descriptor {
  const subject = datastore.datastorePath(path)
  return translated(subject, () => {
    const file = datastore.path(path)
    if (statSync(file).size > MAX_BYTES) throw new LabStorageError('InvalidDisk', `${subject} is not a virtual disk descriptor.`, subject)
    return parseDescriptor(readFileSync(file, 'utf8'), subject)
  })
}

/** Atomic for a kill of the process. */
export function writeDescriptor(datastore: Datastore, path: string, descriptor: Descriptor): void {
  replaceFile(datastore.path(path), formatDescriptor(descriptor), datastore.datastorePath(path))
}

/** The same descriptor with another CID; longContentID ends with it. */
export function withCid(descriptor: Descriptor, cid: string, longContentId: string): Descriptor {
  const ddb = new Map(descriptor.ddb)
  ddb.set('ddb.longContentID', longContentId)
  return { ...descriptor, cid, ddb }
}
