import type { CheckRecord } from '../history/index.ts'
import { SLICES } from '../provider/index.ts'
import type { CheckRule } from './config/repository-check.ts'

const DAY_MS = 24 * 3_600_000

/** What is to be checked of a repository now. */
export type DueCheck = { readonly structure: boolean; readonly slices: readonly number[] }

/**
 * By what was checked when, and the rule: the structure when it is due, and of the data those parts that were read the longest ago, so many that all are read once
 * in the rule's time. A share that was interrupted goes on with the parts that it lacks; after an outage one share is due, not all that were missed. Pure.
 */
export function dueCheck(rule: CheckRule, record: CheckRecord, now: Date): DueCheck {
  const at = now.getTime()
  const isDue = (last: string | null, everyMs: number): boolean => {
    const age = at - Date.parse(last ?? record.knownSince)
    // A clock that stepped back must not keep anything from ever being due.
    return age >= everyMs || age < -everyMs
  }
  const structure = rule.structureMs !== undefined && isDue(record.structureAt, rule.structureMs)
  if (rule.dataMs === undefined) return { structure, slices: [] }
  const stepMs = Math.min(DAY_MS, rule.dataMs)
  if (!isDue(record.dataAt, stepMs)) return { structure, slices: [] }
  const share = Math.ceil((SLICES * stepMs) / rule.dataMs)
  const since = record.dataAt ?? record.knownSince
  const done = record.slices.filter((read) => read !== null && read > since).length
  const oldest = Array.from({ length: SLICES }, (_, slice) => ({ slice, read: record.slices[slice] ?? '' }))
    .filter(({ read }) => read <= since)
    .sort((a, b) => (a.read < b.read ? -1 : a.read > b.read ? 1 : a.slice - b.slice))
  return { structure, slices: oldest.slice(0, Math.max(1, share - done)).map(({ slice }) => slice) }
}

/** Since when every part of the data was read at least once; undefined: not yet all of them. ISO 8601. */
export function allReadSince({ slices }: Pick<CheckRecord, 'slices'>): string | undefined {
  if (slices.length < SLICES || slices.includes(null)) return undefined
  return slices.reduce((oldest, read) => (oldest === null || (read !== null && read < oldest) ? read : oldest), null) ?? undefined
}
