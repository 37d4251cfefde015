import { z } from 'zod'
import { parseProviderUrl } from '../../provider/index.ts'
import type { Window } from '../../schedule/index.ts'
import { timeZone } from './job-schedule.ts'
import { listOf, readBy } from './list-of.ts'
import { duration } from './quantity.ts'
import { parseWindow } from './windows.ts'

/** How a repository that jobs use is checked by the agent. */
export type CheckRule = {
  /** Its structure is looked at so often, ms; undefined: never. */
  readonly structureMs: number | undefined
  /** All its data are read once in so long, a share of them each day, ms; undefined: never. */
  readonly dataMs: number | undefined
  /** A check begins only in one of these; at any time when there is none. */
  readonly windows: readonly Window[]
  readonly timeZone: string
}

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS
const LONGEST_MS = 366 * DAY_MS

const off = z.literal('off')
const every = z.union([off, duration(MINUTE_MS, LONGEST_MS)], { error: 'it is a time like 1d or 4w, or off' })

export const repositoryCheck = z.union(
  [
    off,
    z.strictObject({
      structure: every.optional(),
      data: every.optional(),
      windows: listOf(readBy(parseWindow)).optional(),
      timeZone: timeZone.optional(),
    }),
  ],
  { error: 'it is off, or { structure: 1d, data: 4w }' },
)

/** The structure daily; the data in four weeks, but for object storage, where what is read is charged for. */
export function checkRuleOf({
  url,
  check,
}: {
  readonly url: string
  readonly check?: z.output<typeof repositoryCheck> | undefined
}): CheckRule {
  const { structure, data, windows = [], timeZone: zone } = check === 'off' ? { structure: check, data: check } : (check ?? {})
  const { scheme, path } = parseProviderUrl(url)
  const charged = scheme === 'restic' && path.startsWith('s3:')
  return Object.freeze({
    structureMs: structure === 'off' ? undefined : (structure ?? DAY_MS),
    dataMs: data === 'off' || (data === undefined && charged) ? undefined : (data ?? 28 * DAY_MS),
    windows,
    timeZone: zone ?? Temporal.Now.timeZoneId(),
  })
}
