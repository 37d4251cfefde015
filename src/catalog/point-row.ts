import { AgentError, type BackupMode, type ConsistencyLevel, type PointId, type PointSummary, type RunId } from '../core/index.ts'
import type { Row } from '../state/index.ts'

const SHORTEST_PREFIX = 6

/** Columns of the table `point`, in the order of `columnsOf`. */
export const POINT_COLUMNS = `repository, id, time, vm_name, instance_uuid, vcenter_uuid, mode, run, consistency, total_bytes, read_bytes, stored_bytes,
  not_protected`

export const columnsOf = (point: PointSummary): (string | number)[] => [
  point.repository,
  point.id,
  normalTime(point.time),
  point.vmName,
  point.instanceUuid,
  point.vcenterUuid,
  point.mode,
  point.run,
  point.consistency,
  point.totalBytes,
  point.readBytes,
  point.storedBytes,
  point.notProtected,
]

export const readPoint = (row: Row): PointSummary => ({
  id: row.text('id') as PointId,
  repository: row.text('repository'),
  time: row.text('time'),
  vmName: row.text('vm_name'),
  instanceUuid: row.text('instance_uuid'),
  vcenterUuid: row.text('vcenter_uuid'),
  mode: row.text('mode') as BackupMode,
  run: row.text('run') as RunId,
  consistency: row.text('consistency') as ConsistencyLevel,
  totalBytes: row.integer('total_bytes'),
  readBytes: row.integer('read_bytes'),
  storedBytes: row.integer('stored_bytes'),
  notProtected: row.integer('not_protected'),
})

/** USAGE when too little of an id is given to look for. */
export function checkPrefix(id: string): void {
  if (id.length < SHORTEST_PREFIX) {
    throw new AgentError('USAGE', `The point id "${id}" is too short; give at least ${SHORTEST_PREFIX} characters.`, { subject: id })
  }
}

/** The one point that `id` names among those that begin with it. NOT_FOUND, USAGE (ambiguous). */
export function pickPoint(id: string, found: readonly PointSummary[]): PointSummary {
  const exact = found.filter((point) => point.id === id)
  const matches = exact.length > 0 ? exact : found
  const [point] = matches
  if (point === undefined) throw new AgentError('NOT_FOUND', `No restore point ${id} is known.`, { subject: id, next: 'See "vcb points".' })
  if (matches.length > 1) {
    throw new AgentError('USAGE', `The point id "${id}" fits several restore points: ${matches.map((match) => match.id).join(', ')}.`, {
      subject: id,
      next: 'Give more of the id, or name the repository.',
    })
  }
  return point
}

/** UTC with milliseconds, so that text order is time order. */
export function normalTime(time: string): string {
  const date = new Date(time)
  if (Number.isNaN(date.getTime()))
    throw new AgentError('USAGE', `"${time}" is not a time.`, { next: 'Give a time like 2026-11-22T18:30:00Z.' })
  return date.toISOString()
}
