import type { ClaimKind } from './claim-kinds.ts'
import type { JournaledClaim } from './journal.ts'

type Facts = { readonly args: unknown; readonly ref: unknown }

/** One kind of claim in the words of who reads a list of what is held. Values come from the journal, so any may be missing. */
const WORDS: { readonly [K in ClaimKind]: (claim: Facts) => string } = {
  vmLock: ({ args }) => `the lock on VM ${text(args, 'vm', 'name')}`,
  snapshot: ({ args, ref }) => `the snapshot${quoted(ref, 'name')} of VM ${text(args, 'vm', 'name')}`,
  guestScript: ({ args }) => `the pre-freeze script ${text(args, 'preFreeze')} in the guest of VM ${text(args, 'vm', 'name')}`,
  stagePrograms: ({ args }) => `the ${text(args, 'stage')} programs of VM ${text(args, 'facts', 'vm', 'name')}, which are still to be run`,
  exportLease: ({ args }) => `the export lease on VM ${text(args, 'vm', 'name')}`,
  changeTrackingSnapshot: ({ args, ref }) =>
    `the snapshot${quoted(ref, 'name')} of VM ${text(args, 'vm', 'name')} that switches change tracking on`,
  attachedDisk: ({ args }) => `the disk ${text(args, 'fileName')} attached to VM ${text(args, 'proxy', 'name')}`,
  repositoryWrite: ({ args }) => `unfinished data of run ${text(args, 'run')} in ${text(args, 'url')}`,
  pointRemoval: ({ args }) => `what is left of the removed point ${text(args, 'point')} in ${text(args, 'url')}`,
  newRepository: ({ args }) => `the unfinished repository ${text(args, 'url')}`,
  repositoryKey: ({ args }) => `the new key ${text(args, 'key').slice(0, 8)} of repository ${text(args, 'url')}`,
  repositoryLock: ({ args }) => `the lock on repository ${text(args, 'url')}`,
  partialFile: ({ args, ref }) => `the unfinished ${optional(ref, 'path') ?? text(args, 'path')}`,
  fuseMount: ({ args }) => `the files shown in ${text(args, 'path')}`,
  loopDevice: ({ args }) => `the loop device over ${text(args, 'file')}`,
  volumeMount: ({ args }) => `the file system mounted on ${text(args, 'path')}`,
  mountDirectory: ({ args }) => `what is shown in ${text(args, 'path')}`,
  datastoreDirectory: ({ args, ref }) => `the directory ${optional(ref, 'path') ?? text(args, 'path')} of an unfinished restore`,
  replacedVm: ({ args }) => `the VM ${text(args, 'name')} and the restored one that is to take its place`,
  registeredVm: ({ args }) => `the half restored VM ${text(args, 'name')}`,
}

/** What a claim is, for people: `the snapshot "vcb-proxy 1f…" of VM web01`. A kind this version does not know is named by its id. */
export function claimInWords(claim: Pick<JournaledClaim, 'id' | 'kind' | 'args' | 'ref'>): string {
  return Object.hasOwn(WORDS, claim.kind) ? WORDS[claim.kind as ClaimKind](claim) : `the ${claim.kind} ${claim.id}`
}

/** What a job is about, for people: the VM's name, the run, the restore's target; undefined when its row says nothing of the kind. */
export function jobSubject(args: unknown): string | undefined {
  return (
    optional(args, 'vm', 'name') ??
    optional(args, 'directory') ??
    optional(args, 'name') ??
    optional(args, 'point') ??
    optional(args, 'run')
  )
}

const text = (from: unknown, ...path: readonly string[]): string => optional(from, ...path) ?? '(unknown)'

const quoted = (from: unknown, ...path: readonly string[]): string => {
  const found = optional(from, ...path)
  return found === undefined ? '' : ` "${found}"`
}

/** The text at a path through plain JSON. */
export function optional(from: unknown, ...path: readonly string[]): string | undefined {
  let at: unknown = from
  for (const name of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, name)) return undefined
    at = Reflect.get(at, name)
  }
  return typeof at === 'string' ? at : undefined
}
