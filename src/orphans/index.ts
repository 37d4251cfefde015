/**
 * Rank 3. What was left behind in vSphere, and whose it is: things with our mark, snapshots of other products, disks that need consolidation, files
 * that nothing leads to. Looks and judges, and changes nothing; `flow/orphans.ts` releases what has been judged ours.
 *
 * Start reading at `marked-things.ts` (one pass over a vCenter) and `judge-mark.ts` (what a mark means here and now).
 */
export { snapshotProduct } from './backup-products.ts'
export { type JudgeContext, judgeMark, openClaims, ORPHANS_JOB, type Standing, type Verdict } from './judge-mark.ts'
export {
  findMarked,
  type ForeignSnapshot,
  type MarkedObject,
  type MarkScan,
  type NeedsConsolidation,
  type Unseen,
} from './marked-things.ts'
export { RESTORE_MARKER, restoreMarker } from './restore-marker.ts'
export { findStrayFiles, type StrayFile, type StrayFileSearch } from './stray-files.ts'
