import type { CheckRecord, FoundProblem } from '../history/index.ts'
import { parseProviderUrl, type Problem, type RepositorySize, SLICES } from '../provider/index.ts'

/** Problems that are kept of one repository; one that is broken has thousands, all of one cause. */
const MOST_PROBLEMS = 100

/** A repository's name in the state, however its URL was written. */
export function checkedPlace(url: string): string {
  const { scheme, path } = parseProviderUrl(url)
  return `${scheme}:${path}`
}

export const newCheckRecord = (now: Date): CheckRecord => ({
  knownSince: now.toISOString(),
  structureAt: null,
  dataAt: null,
  slices: Array.from({ length: SLICES }, () => null),
  problems: [],
  size: null,
})

const found = (problems: readonly Problem[], now: Date): FoundProblem[] =>
  problems.map(({ what, point, slice }) => ({ what, point, slice, at: now.toISOString() }))

/** After a whole look at the structure: what it found stands instead of what the last one found. */
export const withStructure = (
  record: CheckRecord,
  problems: readonly Problem[],
  size: RepositorySize | undefined,
  now: Date,
): CheckRecord => ({
  ...record,
  structureAt: now.toISOString(),
  problems: [...found(problems, now), ...record.problems.filter(({ slice }) => slice !== undefined)].slice(0, MOST_PROBLEMS),
  size: size === undefined ? record.size : { ...size, at: now.toISOString() },
})

/** After one part of the data was read. */
export const withSlice = (record: CheckRecord, read: number, problems: readonly Problem[], now: Date): CheckRecord => ({
  ...record,
  slices: record.slices.map((at, slice) => (slice === read ? now.toISOString() : at)),
  problems: [...found(problems, now), ...record.problems.filter(({ slice }) => slice !== read)].slice(0, MOST_PROBLEMS),
})

/** After all parts of a share. */
export const withShare = (record: CheckRecord, now: Date): CheckRecord => ({ ...record, dataAt: now.toISOString() })
