import type { ClaimId } from '../core/index.ts'

const PREFIX = 'vcb-proxy '

/** The name of our snapshot: seen in vCenter by people, found again by recovery. */
export const snapshotName = (claim: ClaimId): string => `${PREFIX}${claim}`

/** True only for the exact name this claim gave; a snapshot that somebody named alike is not ours. */
export const isNamedFor = (name: string, claim: ClaimId): boolean => name === snapshotName(claim)
