import { type Abortable, AgentError, safeFileName, throwIfAborted } from '../../core/index.ts'
import { diskView, run } from './disk-view.ts'
import { identify } from './identify.ts'
import { assembleGroups } from './lvm-groups.ts'
import { type PhysicalVolume, readPhysicalVolume } from './lvm-physical.ts'
import { kindOfType } from './partition-kinds.ts'
import { type FoundPartition, readPartitions } from './partitions.ts'
import type { OpenDisk, Volume, VolumeContent } from './volume.ts'

type Draft = Omit<Volume, 'number'>

const PHYSICAL_VOLUME = 'LVM physical volume'

/**
 * What is on the disks of one VM: every partition, logical volume or whole-disk file system, in a stable order. Pure reading, at most a few MiB of each
 * disk; no process, no privilege. What cannot be opened is there as `refused`, never left out and never an error. Called once for a mount.
 * Errors: those of the disks; USAGE when two disks have one key.
 */
export async function readVolumes(disks: readonly OpenDisk[], options?: Abortable): Promise<readonly Volume[]> {
  if (new Set(disks.map((disk) => disk.key)).size < disks.length) throw new AgentError('USAGE', 'Two of the disks have the same key.')
  const drafts: Draft[] = []
  for (const [index, disk] of disks.entries()) {
    throwIfAborted(options)
    drafts.push(...(await volumesOfDisk(disk, `disk${index}`, options)))
  }
  const all = await withLogicalVolumes(drafts, options)
  const taken = new Set<string>()
  return all.map((draft, index) => Object.freeze({ number: index + 1, ...draft, name: unique(safeFileName(draft.name), taken) }))
}

/** Physical volumes that no metadata was found for are refused; everything that could be put together of the others comes behind them. */
async function withLogicalVolumes(drafts: readonly Draft[], options?: Abortable): Promise<Draft[]> {
  const physical = new Map<Draft, PhysicalVolume | undefined>()
  for (const draft of drafts) {
    if (draft.content.kind !== 'none' || draft.content.what !== PHYSICAL_VOLUME) continue
    throwIfAborted(options)
    physical.set(draft, await readPhysicalVolume(draft.source, options))
  }
  const groups = assembleGroups([...physical.values()].filter((volume) => volume !== undefined))
  const judged = drafts.map((draft): Draft => {
    if (!physical.has(draft)) return draft
    const id = physical.get(draft)?.id
    return id !== undefined && !groups.orphaned.includes(id) ? draft : { ...draft, content: WITHOUT_METADATA }
  })
  const logical: Draft[] = []
  for (const { group, name, source, content } of groups.volumes) {
    throwIfAborted(options)
    logical.push({
      name: `${group}-${name}`,
      source: source ?? diskView([]),
      content: content ?? (await identify(source, options)),
      partition: undefined,
      logical: Object.freeze({ group, name }),
    })
  }
  return [...judged, ...logical]
}

const WITHOUT_METADATA: VolumeContent = {
  kind: 'refused',
  what: PHYSICAL_VOLUME,
  reason: 'Its LVM metadata is damaged, or on a disk that was not read, so its logical volumes are not known.',
}

/** Group `a-b` with volume `c` and group `a` with volume `b-c` would share a name. */
function unique(name: string, taken: Set<string>): string {
  let free = name
  for (let again = 2; taken.has(free); again++) free = `${name}~${again}`
  taken.add(free)
  return free
}

async function volumesOfDisk(disk: OpenDisk, name: string, options?: Abortable): Promise<Draft[]> {
  const whole = diskView([run(disk.source, 0, disk.source.size)])
  const table = await readPartitions(disk.source, options)
  if (table === undefined)
    return [{ name, source: whole, content: await identify(whole, options), partition: undefined, logical: undefined }]
  const found: Draft[] = []
  for (const entry of table.partitions) found.push(await volumeOfPartition(disk, name, entry, options))
  if (table.damage.length === 0) return found
  const reason = `Its partition table is damaged: ${table.damage.join('; ')}. What is missing here is on the disk image itself.`
  return [
    ...found,
    {
      name,
      source: whole,
      content: { kind: 'refused', what: 'damaged partition table', reason },
      partition: undefined,
      logical: undefined,
    },
  ]
}

async function volumeOfPartition(disk: OpenDisk, name: string, entry: FoundPartition, options?: Abortable): Promise<Draft> {
  const { length, wrong, ...place } = entry
  const source = diskView([run(disk.source, entry.offset, length)])
  const content: VolumeContent =
    wrong === undefined
      ? (kindOfType(entry.type) ?? (await identify(source, options)))
      : { kind: 'refused', what: 'damaged partition', reason: sentence(wrong) }
  return { name: `${name}-part${entry.index}`, source, content, partition: Object.freeze({ disk: disk.key, ...place }), logical: undefined }
}

const sentence = (half: string): string => `It is not opened: ${half}.`
