import type { ClaimId } from '../core/index.ts'

const PREFIX = 'vcb-proxy '

/** The name of our snapshot: seen in vCenter by people, found again by recovery. */
export const snapshotName = (claim: ClaimId): string => `${PREFIX}${claim}`

/** True only for the exact name this claim gave; a snapshot that somebody named alike is not ours. */
export const isNamedFor = (name: string, claim: ClaimId): boolean => name === snapshotName(claim)

/** The claim a snapshot is named for; undefined for every other name. Not yet a proof: the mark in the description is. */
export function claimOfName(name: string): ClaimId | undefined {
  const claim = name.slice(PREFIX.length)
  return name.startsWith(PREFIX) && /^[0-9a-f]{24}$/.test(claim) ? (claim as ClaimId) : undefined
}
