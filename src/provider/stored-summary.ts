import { z } from 'zod'
import type { PointId, PointSummary, RunId } from '../core/index.ts'

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const schema = z.looseObject({
  vcb: z.literal(1),
  time: z.iso.datetime({ offset: true }),
  vmName: z.string(),
  instanceUuid: z.string(),
  vcenterUuid: z.string(),
  mode: z.enum(['full', 'incremental']),
  run: z.string(),
  consistency: z.enum(['crash', 'filesystem', 'application']),
  totalBytes: count,
  readBytes: count,
  storedBytes: count,
  missingDisks: z.array(z.string()),
})

/** What a product keeps beside a point so that a list needs nothing else: plain JSON. */
export function encodeSummary(summary: PointSummary): Readonly<Record<string, unknown>> {
  const { id: _id, repository: _repository, notProtected: _notProtected, needs: _needs, ...facts } = summary
  return { vcb: 1, ...facts }
}

/** The summary of a point as a product gave it back; undefined when it is none of ours. */
export function parseSummary(stored: unknown, id: PointId, repository: string): PointSummary | undefined {
  const parsed = schema.safeParse(stored)
  if (!parsed.success) return undefined
  const { vcb: _vcb, ...facts } = parsed.data
  return { ...facts, id, repository, run: facts.run as RunId, notProtected: facts.missingDisks.length }
}

/** What a product or a stranger wrote; undefined when it is not JSON. */
export function fromJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // a comment of somebody else's
  }
}
