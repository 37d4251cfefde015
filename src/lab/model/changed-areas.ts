import { type AreasRequest } from '../storage/index.ts'
import { invalidArgument, type LabObject } from '../wire/index.ts'
import { changeTrackingFault, invalidPowerState } from './faults.ts'
import { faulting } from './files.ts'
import type { Model } from './model.ts'
import { disksOf, isIndependent, type SnapshotRecord, type VmRecord } from './record.ts'

export type AreasQuestion = {
  readonly snapshot: SnapshotRecord | undefined
  readonly deviceKey: number
  readonly startOffset: number
  readonly changeId: string
}

/** Areas a call gives at most; real hosts were seen to stop there too. */
const PAGE = 2000

/**
 * QueryChangedDiskAreas: a DiskChangeInfo from the disk's tracking file, made untrue where a fault rule says so. Faults InvalidArgument
 * (deviceKey, startOffset, changeId), FileFault with the host's keys, InvalidPowerState for a running VM without a snapshot.
 */
export async function changedAreas(model: Model, vm: VmRecord, question: AreasQuestion): Promise<LabObject> {
  const { snapshot, deviceKey, startOffset, changeId } = question
  if (snapshot === undefined && vm.power === 'poweredOn') throw invalidPowerState('poweredOff', vm.power)
  const disk = disksOf(snapshot?.config ?? vm.config).find((candidate) => candidate.key === deviceKey)
  const file = disk?.chain[0]?.path
  if (disk === undefined || file === undefined || isIndependent(disk)) throw invalidArgument('deviceKey')
  if (startOffset < 0 || startOffset >= disk.capacity) throw invalidArgument('startOffset')
  const rule = model.rules.strike({ on: 'QueryChangedDiskAreas', names: model.names(vm) }, 'changedAreas')[0]?.changedAreas
  if (rule === 'noTrack' || rule === 'cannotGetChanges') throw changeTrackingFault(file, rule)
  if (rule === 'zero-length') return answer(startOffset, 0, [])
  if (rule === 'one-area')
    return answer(startOffset, disk.capacity - startOffset, [{ start: startOffset, length: disk.capacity - startOffset }])

  const machine = await model.machine(vm)
  return machine.use(() => {
    const open = machine.disk(deviceKey)
    if (open === undefined) throw changeTrackingFault(file, 'noTrack')
    if (snapshot !== undefined && disk.changeId === undefined) throw changeTrackingFault(file, 'noTrack')
    const link = disk.chain[0]
    using view = snapshot === undefined || link === undefined ? undefined : machine.view(disk, link)
    const request: AreasRequest = {
      changeId,
      until: snapshot === undefined ? undefined : disk.changeId,
      startOffset,
      maxAreas: rule === 'small-pages' ? 3 : PAGE,
      view,
    }
    const found = faulting(file, () => open.tracking.areas(request))
    if (rule === 'miss') return answer(found.startOffset, found.length, found.areas.slice(0, Math.floor(found.areas.length / 2)))
    if (rule === 'lie-end') {
      // Says that the disk ends where it does not: an answer that reaches over the capacity.
      return answer(found.startOffset, disk.capacity - startOffset + 65_536, [...found.areas, { start: disk.capacity, length: 65_536 }])
    }
    return answer(found.startOffset, found.length, found.areas)
  })
}

const answer = (startOffset: number, length: number, areas: readonly { readonly start: number; readonly length: number }[]): LabObject => ({
  $type: 'DiskChangeInfo',
  startOffset,
  length,
  changedArea: areas.map((area) => ({ $type: 'DiskChangeExtent', start: area.start, length: area.length })),
})
