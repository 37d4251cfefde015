import { type BlockSource, isAgentError } from '../../core/index.ts'
import { diskView, type Stretch } from './disk-view.ts'
import { refused } from './evidence.ts'
import type { PhysicalVolume } from './lvm-physical.ts'
import { type ExtentHolder, readSegment } from './lvm-segment.ts'
import { countOf, listOf, type LvmSection, parseLvmText, sectionOf, textOf } from './lvm-text.ts'
import type { VolumeContent } from './volume.ts'

/** `source` when it can be read; what it is not otherwise. */
export type LogicalVolume = { readonly group: string; readonly name: string } & (
  | { readonly source: BlockSource; readonly content: undefined }
  | { readonly source: undefined; readonly content: VolumeContent }
)

export type VolumeGroups = {
  readonly volumes: readonly LogicalVolume[]
  /** Ids of physical volumes of which no whole metadata was found on any disk. */
  readonly orphaned: readonly string[]
}

type Group = { readonly name: string; readonly id: string; readonly sequence: number; readonly body: LvmSection }

const SECTOR = 512
const MOST_VOLUMES = 1024
const MOST_SEGMENTS = 65_536

const NAMES: Readonly<Record<string, string>> = { thin: 'thin volume', 'thin-pool': 'thin pool', snapshot: 'LVM snapshot' }

/** Puts the logical volumes together of all physical volumes of a VM; of each group the metadata with the highest number counts. */
export function assembleGroups(physical: readonly PhysicalVolume[]): VolumeGroups {
  const groups = new Map<string, Group>()
  for (const text of new Set(physical.flatMap((volume) => volume.texts))) {
    const group = parseGroup(text)
    if (group !== undefined && group.sequence > (groups.get(group.id)?.sequence ?? -1)) groups.set(group.id, group)
  }
  const known = new Set<string>()
  const volumes: LogicalVolume[] = []
  for (const group of groups.values()) {
    for (const [, entry] of sections(group.body['physical_volumes'])) known.add(bare(textOf(entry['id'])))
    volumes.push(...volumesOf(group, physical))
  }
  return { volumes: volumes.slice(0, MOST_VOLUMES), orphaned: physical.map((volume) => volume.id).filter((id) => !known.has(id)) }
}

/** Undefined for a text that is damaged in spite of its checksum; its physical volume is then told as one without metadata. */
function parseGroup(text: string): Group | undefined {
  let whole: LvmSection
  try {
    whole = parseLvmText(text)
  } catch (error) {
    if (isAgentError(error, 'INTEGRITY')) return undefined
    throw error
  }
  for (const [name, body] of sections(whole)) {
    const [id, sequence] = [textOf(body['id']), countOf(body['seqno'])]
    if (id !== undefined && sequence !== undefined) return { name, id, sequence, body }
  }
  return undefined
}

function volumesOf(group: Group, physical: readonly PhysicalVolume[]): LogicalVolume[] {
  const extentBytes = (countOf(group.body['extent_size']) ?? 0) * SECTOR
  const holders = new Map<string, ExtentHolder | undefined>()
  const twice: string[] = []
  for (const [name, entry] of sections(group.body['physical_volumes'])) {
    const found = physical.filter((volume) => volume.id === bare(textOf(entry['id'])))
    if (found.length > 1) twice.push(name)
    const [start, extents] = [countOf(entry['pe_start']), countOf(entry['pe_count'])]
    const source = found[0]?.source
    holders.set(
      name,
      source === undefined || start === undefined || extents === undefined ? undefined : { source, start: start * SECTOR, extents },
    )
  }
  const logical = sections(group.body['logical_volumes'])
  const stores = new Set(logical.flatMap(([, volume]) => segmentsOf(volume).flatMap((segment) => textOf(segment['cow_store']) ?? [])))
  return logical
    .filter(([, volume]) => listOf(volume['status']).includes('VISIBLE'))
    .map(([name, volume]): LogicalVolume => {
      const place = { group: group.name, name }
      const found = stores.has(name)
        ? unopened('snapshot')
        : twice.length > 0
          ? refused(
              'volume group twice',
              `Two disks carry the same physical volume of the group ${group.name} (${twice.join(', ')}): which is right is not known.`,
            )
          : assemble(group.name, segmentsOf(volume), extentBytes, holders)
      return 'kind' in found ? { ...place, source: undefined, content: found } : { ...place, source: found, content: undefined }
    })
}

function assemble(
  group: string,
  segments: readonly LvmSection[],
  extentBytes: number,
  holders: ReadonlyMap<string, ExtentHolder | undefined>,
): BlockSource | VolumeContent {
  const wrong = refused(
    'damaged logical volume',
    `The metadata of the volume group ${group} does not fit its physical volumes, so it is not opened.`,
  )
  const stretches: Stretch[] = []
  let next = 0
  for (const section of segments) {
    const segment = readSegment(section, extentBytes, holders)
    if (segment.kind === 'type') return unopened(segment.type)
    if (segment.kind === 'missing') {
      return refused(
        'incomplete volume group',
        `A part of it is on ${segment.holder} of the volume group ${group}, which is not among the disks that were read.`,
      )
    }
    if (segment.kind === 'wrong' || segment.firstExtent !== next || extentBytes === 0) return wrong
    next += segment.extents
    stretches.push(segment.stretch)
  }
  return stretches.length === 0 || !Number.isSafeInteger(next * extentBytes) ? wrong : diskView(stretches)
}

const unopened = (type: string): VolumeContent =>
  refused(
    NAMES[type] ?? `LVM ${type}`,
    `It is of the kind "${type}" of LVM, which is not put together here; activate the volume group from the image files, or restore the disks.`,
  )

function segmentsOf(volume: LvmSection): LvmSection[] {
  const count = Math.min(countOf(volume['segment_count']) ?? 0, MOST_SEGMENTS)
  return Array.from({ length: count }, (_, index) => sectionOf(volume[`segment${index + 1}`]) ?? {})
}

const sections = (value: LvmSection[string] | undefined): [string, LvmSection][] =>
  Object.entries(sectionOf(value) ?? {}).flatMap(([name, entry]) => {
    const section = sectionOf(entry)
    return section === undefined ? [] : [[name, section]]
  })

const bare = (id: string | undefined): string => (id ?? '').replaceAll('-', '')
