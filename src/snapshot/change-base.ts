import { type DiskFacts, type DiskRef, formatBytes } from '../core/index.ts'

/** `use: false` means a full read of this disk, for the reason given. */
export type ChangeBase =
  | { readonly use: true; readonly changeId: string; readonly reason: string }
  | { readonly use: false; readonly reason: string }

/**
 * Whether the changeId stored with the last point may be the base of an incremental of `current`, the same disk in the new snapshot's config.
 * Any doubt is a no: another tracking generation (the part before the last `/`), a counter that went back (revert), another size, another
 * disk under the same key, a moved disk. Pure.
 */
export function changeBase(previous: DiskFacts | undefined, current: DiskRef): ChangeBase {
  const no = (reason: string): ChangeBase => ({ use: false, reason })
  if (previous === undefined) return no('the last point does not hold this disk')
  if (previous.changeId === undefined || previous.changeId === '') return no('the last point stored no change id for this disk')
  if (current.changeId === undefined || current.changeId === '') return no('change tracking gives no change id for this disk now')
  if (previous.key !== current.key) return no(`the disk had device key ${previous.key} and has ${current.key} now`)
  if (previous.capacityBytes !== current.capacityBytes) {
    return no(`its capacity changed from ${formatBytes(previous.capacityBytes)} to ${formatBytes(current.capacityBytes)}`)
  }
  if (previous.uuid !== undefined && current.uuid !== undefined && !sameUuid(previous.uuid, current.uuid)) {
    return no('another disk is in its place now (its uuid differs)')
  }
  if (lineage(previous.fileName) !== lineage(current.fileName)) return no(`the disk moved from ${previous.fileName} to ${current.fileName}`)
  return compareIds(previous.changeId, current.changeId)
}

function compareIds(before: string, now: string): ChangeBase {
  const then = splitChangeId(before)
  const current = splitChangeId(now)
  if (then === undefined || current === undefined) return { use: false, reason: 'the change id has an unknown shape' }
  if (!sameUuid(then.generation, current.generation)) {
    return { use: false, reason: 'change tracking was reset since the last point (its id has another uuid)' }
  }
  if (current.sequence < then.sequence) return { use: false, reason: 'change tracking went back, so the VM was reverted to an older state' }
  return { use: true, changeId: before, reason: 'changed since the last point' }
}

/** `52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/81`: a generation and a counter. */
function splitChangeId(changeId: string): { readonly generation: string; readonly sequence: bigint } | undefined {
  const match = /^(.*[0-9a-f].*)\/(\d{1,20})$/is.exec(changeId)
  return match?.[1] === undefined || match[2] === undefined ? undefined : { generation: match[1], sequence: BigInt(match[2]) }
}

const sameUuid = (a: string, b: string): boolean => a.replaceAll(/[\s-]/g, '').toLowerCase() === b.replaceAll(/[\s-]/g, '').toLowerCase()

/** The base disk a link belongs to: `[ds] vm/web-000003.vmdk` and `[ds] vm/web.vmdk` are one lineage. */
const lineage = (fileName: string): string => fileName.replace(/(-\d{6})*\.vmdk$/i, '.vmdk')
