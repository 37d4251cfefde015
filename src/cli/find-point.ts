import { AgentError, type PointSummary } from '../core/index.ts'
import type { PointStore } from '../provider/index.ts'

/**
 * The point a user means: an id or the beginning of one, or `NAME@latest` for the newest point of a VM. A bare id goes on to the store, which
 * resolves it. NOT_FOUND, USAGE.
 */
export async function findPoint(store: PointStore, text: string, signal: AbortSignal): Promise<string> {
  const match = /^(.+)@latest$/s.exec(text)
  const name = match?.[1]
  if (name === undefined) return text
  let newest: PointSummary | undefined
  const uuids = new Set<string>()
  for await (const point of store.list({ signal })) {
    if (point.vmName !== name && point.instanceUuid !== name) continue
    uuids.add(`${point.vcenterUuid}/${point.instanceUuid}`)
    if (newest === undefined || Date.parse(point.time) > Date.parse(newest.time)) newest = point
  }
  if (newest === undefined) {
    throw new AgentError('NOT_FOUND', `There is no restore point of a VM named ${name}.`, {
      subject: name,
      next: 'List them with "vcb points".',
    })
  }
  if (uuids.size > 1) {
    throw new AgentError('USAGE', `${uuids.size} different VMs named ${name} have restore points.`, {
      subject: name,
      next: 'Name the point by its id; "vcb points" lists them.',
    })
  }
  return newest.id
}
