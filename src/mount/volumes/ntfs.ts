import { type Evidence, fileSystem } from './evidence.ts'
import { attributeData, type NtfsShape, readRecord, readShape } from './ntfs-record.ts'
import { label } from './part.ts'
import type { VolumeContent } from './volume.ts'

const LOG_FILE = 2
const VOLUME = 3
const VOLUME_NAME = 0x60
const VOLUME_INFORMATION = 0x70
const DATA = 0x80
const DIRTY = 1
const LOG_IS_CLEAN = 2
const NO_CLIENT = 0xffff

const HIBERNATION = 'Whether Windows was hibernated (hiberfil.sys) is not told from here.'

/** NTFS (docs/formats/file-systems.md): label and dirty flag of `$Volume`, and whether `$LogFile` was closed in order. */
export async function recogniseNtfs(evidence: Evidence): Promise<VolumeContent | undefined> {
  const { head } = evidence
  if (head.toString('latin1', 3, 11) !== 'NTFS    ') return undefined
  const shape = readShape(head)
  if (shape === undefined) return undefined
  const uuid = head.readBigUInt64LE(72).toString(16).toUpperCase().padStart(16, '0')
  const volume = await readRecord(evidence, shape, VOLUME)
  const information = volume === undefined ? undefined : attributeData(volume, VOLUME_INFORMATION)
  if (volume === undefined || information?.kind !== 'resident' || information.bytes.length < 12) {
    return fileSystem('ntfs', { uuid, label: undefined, dirty: true, note: 'Its $Volume record is damaged; the file system may not open.' })
  }
  const name = attributeData(volume, VOLUME_NAME)
  const flagged = (information.bytes.readUInt16LE(10) & DIRTY) !== 0
  const logClean = await isLogFileClean(evidence, shape)
  const found = [
    ...(flagged ? ['Windows marked it to be checked (dirty flag).'] : []),
    ...(logClean === undefined ? ['Its log could not be read.'] : []),
    HIBERNATION,
  ]
  return fileSystem('ntfs', {
    uuid,
    label: name?.kind === 'resident' ? label(name.bytes, 'utf16le') : undefined,
    dirty: flagged || logClean === false,
    note: found.join(' '),
  })
}

/** `$LogFile` begins with two restart pages, the newer of which counts; one of 0xFF only was emptied and is clean. */
async function isLogFileClean(evidence: Evidence, shape: NtfsShape): Promise<boolean | undefined> {
  const record = await readRecord(evidence, shape, LOG_FILE)
  const data = record === undefined ? undefined : attributeData(record, DATA)
  if (data?.kind !== 'run') return undefined
  const start = data.cluster * shape.clusterBytes
  let newest: { readonly lsn: bigint; readonly clean: boolean } | undefined
  let pageBytes = 4096
  for (const page of [0, 1]) {
    const bytes = await evidence.part(start + page * pageBytes, 4096)
    if (bytes === undefined) return undefined
    if (page === 0 && bytes.every((byte) => byte === 0xff)) return true
    if (bytes.toString('latin1', 0, 4) !== 'RSTR') continue
    const size = bytes.readUInt32LE(16)
    if (size >= 512 && size <= 65_536) pageBytes = size
    const area = bytes.readUInt16LE(24)
    if (area + 16 > 512 - 2) continue
    const lsn = bytes.readBigInt64LE(area)
    const clean = bytes.readUInt16LE(area + 12) === NO_CLIENT || (bytes.readUInt16LE(area + 14) & LOG_IS_CLEAN) !== 0
    if (newest === undefined || lsn > newest.lsn) newest = { lsn, clean }
  }
  return newest?.clean
}
