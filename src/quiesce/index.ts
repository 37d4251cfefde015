/**
 * Rank 2. How the frozen disks come to be consistent: decides before the snapshot whether to ask the guest, repeats and falls back as the
 * policy says, and tells afterwards what was really reached.
 *
 * A `Quiescer` returns a `Frozen`, whose disposal thaws. With VMware Tools the snapshot call itself freezes and thaws, so its `Frozen`
 * only carries what to ask CreateSnapshot for; a quiescer that runs scripts in the guest thaws on disposal. `FreezeLimit` is the watchdog over
 * either; `quiescer.ts` has the rule about the second limit on the other side.
 *
 * `GuestScripts` runs an administrator's own scripts before and after that, over a `GuestShell`: VMware's guest operations, or SSH.
 */
export { DEFAULT_FREEZE_LIMIT_MS, FreezeLimit, type FreezeLimitOptions, type Within } from './freeze-limit.ts'
export type { FreezeOptions, Frozen, Quiescer, Reached } from './quiescer.ts'
export { type Consistent, type Take, takeConsistent, type TakeOptions } from './take-consistent.ts'
export { guestOperationsShell, programOf } from './guest-operations-shell.ts'
export {
  GuestScriptError,
  GuestScripts,
  type GuestScriptsDeps,
  type ScriptReport,
  type ScriptRule,
  sentenceOf,
} from './guest-scripts.ts'
export type { GuestShell, ScriptCommand, ScriptEnd } from './guest-shell.ts'
export { sshShell } from './ssh-shell.ts'
export { noQuiescer, toolsQuiescer } from './tools-quiescer.ts'
