import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { codeOf, type SourceFile } from '../../scripts/source-text.ts'
import { type Clock, silentLog } from '../../src/core/index.ts'
import { createReleasePatience, createReleasers } from '../../src/flow/index.ts'
import type { VmLocks } from '../../src/journal/index.ts'
import { ProxyGuest } from '../../src/transport/index.ts'

/* One release path per kind of claim: what undoes an effect is called by the releaser of its kind and by nobody else. */
const TOP = join(import.meta.dirname, '..', '..')
const sources: readonly SourceFile[] = readdirSync(join(TOP, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts') && !path.endsWith('.test.ts') && !path.startsWith('lab/'))
  .map((path) => ({ path: `src/${path}`, text: readFileSync(join(TOP, 'src', path), 'utf8') }))

/** Each file without comments and, for calls by name, without strings: made once. */
const codes = new Map<SourceFile, { readonly blank: string; readonly keep: string }>()
function codeIn(file: SourceFile, strings: 'keep' | 'blank'): string {
  let known = codes.get(file)
  if (known === undefined) {
    known = { blank: codeOf(file.text, 'blank'), keep: codeOf(file.text, 'keep') }
    codes.set(file, known)
  }
  return known[strings]
}

/** `undoes`: what is called in the end; `path`: from the registry down to it, each step called from the one before alone. */
type Path = { readonly kind: string; readonly undoes: string; readonly path: readonly Step[] }
type Step = {
  /** A function, or a vSphere method in quotes. */
  readonly calls: string
  /** The one file that may. */
  readonly from: string
  /** Other callers, each because it is no clean-up of this claim. */
  readonly also?: Readonly<Record<string, string>>
}

const REGISTRY = 'src/flow/releasers.ts'
const SNAPSHOT: readonly Step[] = [
  {
    calls: 'createSnapshots',
    from: REGISTRY,
    also: {
      'src/agent/vm-backup.ts': 'makes them; its flow only creates and reads',
      'src/agent/mount-run.ts': 'makes them; its flow only creates and reads',
    },
  },
  { calls: 'removeOwnSnapshot', from: 'src/snapshot/vsphere-snapshots.ts' },
  {
    calls: 'changes.remove',
    from: 'src/snapshot/remove-snapshot.ts',
    also: { 'src/snapshot/shell-changes.ts': 'hands it on to the API or the shell' },
  },
  {
    calls: 'changes.consolidate',
    from: 'src/snapshot/remove-snapshot.ts',
    also: { 'src/snapshot/shell-changes.ts': 'hands it on to the API or the shell' },
  },
  { calls: 'removeInShell', from: 'src/snapshot/shell-changes.ts' },
  { calls: 'removeSnapshot', from: 'src/snapshot/api-changes.ts' },
  { calls: 'consolidateDisks', from: 'src/snapshot/api-changes.ts' },
  { calls: "'RemoveSnapshot_Task'", from: 'src/vsphere/snapshot-calls.ts' },
  { calls: "'ConsolidateVMDisks_Task'", from: 'src/vsphere/snapshot-calls.ts' },
]

const PATHS: readonly Path[] = [
  {
    kind: 'vmLock',
    undoes: 'a row of vm_lock',
    path: [
      { calls: 'vmLockReleaser', from: REGISTRY },
      { calls: 'locks.release', from: 'src/journal/vm-locks.ts' },
    ],
  },
  { kind: 'snapshot', undoes: 'a snapshot, its redo logs committed', path: SNAPSHOT },
  {
    kind: 'guestScript',
    undoes: 'what a pre-freeze script stopped in the guest',
    path: [
      { calls: 'scripts().postThaw', from: REGISTRY },
      { calls: 'deleteFileInGuest', from: 'src/quiesce/guest-operations-shell.ts' },
      { calls: "'DeleteFileInGuest'", from: 'src/vsphere/guest-calls.ts' },
    ],
  },
  {
    kind: 'stagePrograms',
    undoes: 'what programs before a stage stopped on this proxy',
    path: [
      { calls: 'stages().come', from: REGISTRY },
      { calls: 'endMarkedPrograms', from: 'src/stages/stage-programs.ts' },
    ],
  },
  {
    kind: 'exportLease',
    undoes: 'a lease that sends a snapshot’s disks',
    path: [
      { calls: 'endExport', from: REGISTRY },
      { calls: "'HttpNfcLeaseAbort'", from: 'src/vsphere/nfc-lease.ts' },
    ],
  },
  { kind: 'changeTrackingSnapshot', undoes: 'a snapshot, its redo logs committed', path: SNAPSHOT },
  {
    kind: 'attachedDisk',
    undoes: 'a disk attached to the proxy VM',
    path: [
      { calls: 'detachAttached', from: REGISTRY },
      { calls: 'detachDisk', from: 'src/transport/hotadd-release.ts' },
    ],
  },
  {
    kind: 'repositoryWrite',
    undoes: 'what writers of a run left half written',
    path: [{ calls: 'removePartials', from: REGISTRY }],
  },
  { kind: 'newRepository', undoes: 'a repository that was not made to its end', path: [{ calls: 'removeNewRepository', from: REGISTRY }] },
  { kind: 'repositoryKey', undoes: 'a password whose key did not come to be', path: [{ calls: 'settleNewKey', from: REGISTRY }] },
  { kind: 'repositoryLock', undoes: 'lock files of a repository', path: [{ calls: 'removeLocks', from: REGISTRY }] },
  {
    kind: 'pointRemoval',
    undoes: 'what is left of a removed point',
    path: [
      {
        calls: 'removeDeleted',
        from: REGISTRY,
        also: { 'src/provider/dir-points.ts': 'is the removal itself, not the end of one that broke off' },
      },
    ],
  },
  { kind: 'partialFile', undoes: 'a half restored directory', path: [{ calls: 'removePartial', from: REGISTRY }] },
  {
    kind: 'fuseMount',
    undoes: 'files served through FUSE',
    path: [
      { calls: 'presentReleasers', from: REGISTRY },
      { calls: 'endMount', from: 'src/mount/present/present-releasers.ts' },
    ],
  },
  {
    kind: 'loopDevice',
    undoes: 'a loop device',
    path: [
      { calls: 'presentReleasers', from: REGISTRY },
      { calls: 'detachLoop', from: 'src/mount/present/present-releasers.ts' },
    ],
  },
  {
    kind: 'volumeMount',
    undoes: 'a mounted file system and its program',
    path: [
      { calls: 'presentReleasers', from: REGISTRY },
      { calls: 'endMount', from: 'src/mount/present/present-releasers.ts' },
      { calls: 'endPrograms', from: 'src/mount/present/present-releasers.ts' },
    ],
  },
  { kind: 'mountDirectory', undoes: 'what a lease made in its directory', path: [{ calls: 'removeMountDirectory', from: REGISTRY }] },
  {
    kind: 'datastoreDirectory',
    undoes: 'a half restored directory on a datastore',
    path: [
      {
        calls: 'deleteDatastoreFile',
        from: REGISTRY,
        also: { 'src/flow/new-vm-files.ts': 'takes the mark out of a restore that succeeded' },
      },
      { calls: "'DeleteDatastoreFile_Task'", from: 'src/vsphere/file-calls.ts' },
    ],
  },
  {
    kind: 'replacedVm',
    undoes: 'a replacement that is half done, forwards or back',
    path: [
      { calls: 'settleReplacement', from: REGISTRY },
      {
        calls: 'destroyVm',
        from: 'src/flow/replaced-vm.ts',
        also: { 'src/flow/destroy-restored.ts': 'the releaser of registeredVm' },
      },
    ],
  },
  {
    kind: 'registeredVm',
    undoes: 'a half restored VM',
    path: [
      { calls: 'destroyRestored', from: REGISTRY },
      {
        calls: 'destroyVm',
        from: 'src/flow/destroy-restored.ts',
        also: { 'src/flow/replaced-vm.ts': 'the releaser of replacedVm' },
      },
      { calls: 'cancelTasksOf', from: 'src/flow/destroy-restored.ts' },
      { calls: "'Destroy_Task'", from: 'src/vsphere/vm-calls.ts' },
    ],
  },
]

/** Effects that are undone inside the scope that made them, with `await using`, and are no claims: one file each. */
const SCOPED: readonly (Step & { readonly why: string })[] = [
  {
    calls: "'HttpNfcLeaseAbort'",
    from: 'src/vsphere/nfc-lease.ts',
    why: 'an import’s lease is its scope’s, and its VM registeredVm’s; an export’s is the claim exportLease',
  },
  { calls: "'CancelTask'", from: 'src/vsphere/task.ts', why: 'a task that its own starter gives up' },
  { calls: "'DestroyPropertyCollector'", from: 'src/vsphere/task.ts', why: 'of the session, and gone with it' },
  { calls: "'DestroyView'", from: 'src/vsphere/property-collector.ts', why: 'of the session, and gone with it' },
  { calls: "'EnableMethods'", from: 'src/vsphere/traces.ts', why: 'nothing disables methods yet; a claim kind comes with it' },
]

/** What would undo an effect and has no caller at all: whoever wants one gives it a claim kind and a row above. */
const UNUSED = ['deleteVirtualDisk', 'unregisterVm', 'enableMethods', 'powerOff']

const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** Files that call a function (definitions and imports are none), or name a method in quotes. */
function callersOf(what: string, files: readonly SourceFile[]): string[] {
  const quoted = what.startsWith("'")
  const pattern = quoted
    ? new RegExp(`\\bcall\\(\\s*${escaped(what)}|runTask\\(\\s*\\w+,\\s*${escaped(what)}`)
    : new RegExp(`(?<!function |[.#\\w])${escaped(what)}\\s*\\(|[(,=:]\\s*${escaped(what)}\\s*[),]`)
  return files
    .filter((file) => {
      const code = codeIn(file, quoted ? 'keep' : 'blank').replaceAll(/^(?:import|export)\b[^;]*?\bfrom\b.*$/gm, '')
      return pattern.test(code)
    })
    .map(({ path }) => path)
    .sort()
}

const allowed = ({ from, also = {} }: Step): string[] => [from, ...Object.keys(also)].sort()

function claimKinds(): string[] {
  const text = readFileSync(join(TOP, 'src', 'journal', 'claim-kinds.ts'), 'utf8')
  const body = /export interface ClaimKinds \{\n([^]*?)\n\}/.exec(text)?.[1] ?? ''
  return [...body.matchAll(/^ {2}(\w+): \{/gm)].map((match) => match[1] ?? '')
}

describe('release paths', () => {
  it('are as many as there are kinds of claims, one each', () => {
    expect(PATHS.map(({ kind }) => kind)).toEqual(claimKinds())
  })

  it('start in one registry that has exactly one releaser for each kind', () => {
    const clock = { monotonicMs: () => 0 } as Clock
    const releasers = createReleasers({
      vsphere: () => Promise.reject(new Error('not asked')),
      locks: {} as VmLocks,
      clock,
      patience: createReleasePatience({ clock, log: silentLog, forMs: 0 }),
      guest: new ProxyGuest({ sysfs: '/nowhere', devices: '/nowhere', appearMs: 0, clock }),
    })
    expect(Object.keys(releasers).toSorted()).toEqual(claimKinds().toSorted())
    for (const releaser of Object.values(releasers))
      expect(releaser).toMatchObject({ find: expect.any(Function), release: expect.any(Function) })
    // Made in one place, and asked in one place, whoever ends a job.
    expect(callersOf('createReleasers', sources)).toEqual(['src/agent/agent.ts'])
    expect(sources.filter((file) => /\breleaser\.(?:find|release)\(/.test(codeIn(file, 'blank'))).map(({ path }) => path)).toEqual([
      'src/journal/release-claims.ts',
    ])
    expect(callersOf('releaseClaims', sources)).toEqual(['src/journal/claims.ts', 'src/journal/recover-jobs.ts'])
  })

  it.each(PATHS)('$kind: $undoes', ({ path }) => {
    for (const step of path) {
      const callers = callersOf(step.calls, sources)
      expect(callers, `${step.calls} is called by its releaser alone`).toEqual(allowed(step))
    }
  })

  it.each(SCOPED)('$calls is called in one file: $why', (step) => {
    expect(callersOf(step.calls, sources)).toEqual(allowed(step))
  })

  it.each(UNUSED)('%s undoes something and has no caller past a claim', (name) => {
    expect(callersOf(name, sources)).toEqual([])
  })

  it('no other vSphere method that takes away is called at all', () => {
    const taking = /\bcall\(\s*'(\w+)'|runTask\(\s*\w+,\s*'(\w+)'/g
    const named = new Set(sources.flatMap((file) => [...codeIn(file, 'keep').matchAll(taking)].map((match) => match[1] ?? match[2] ?? '')))
    const takesAway = [...named].filter((method) =>
      /^(?:Remove|Destroy|Delete|Unregister|Revert|Detach|Consolidate|Abort|Cancel|Enable)|Abort$/.test(method),
    )
    const known = [...PATHS.flatMap(({ path }) => path), ...SCOPED].map(({ calls }) => calls.replaceAll("'", ''))
    // Wrapped by the functions of UNUSED, or an end of the session's own reading.
    const wrapped = ['UnregisterVM', 'DeleteVirtualDisk_Task', 'CancelRetrievePropertiesEx']
    expect(takesAway.filter((method) => !known.includes(method) && !wrapped.includes(method))).toEqual([])
  })

  it('the check sees a second copy', () => {
    const planted = { path: 'src/cli/x.ts', text: "import { destroyVm } from '../vsphere/index.ts'\nawait destroyVm(vsphere, vm)\n" }
    expect(callersOf('destroyVm', [planted])).toEqual(['src/cli/x.ts'])
    expect(callersOf('destroyVm', [{ ...planted, text: '// destroyVm(vm)\nconst text = "destroyVm(vm)"' }])).toEqual([])
    expect(callersOf('destroyVm', [{ ...planted, text: 'const undo = [destroyVm, other]\nrun(destroyVm)' }])).toEqual(['src/cli/x.ts'])
    expect(callersOf("'Destroy_Task'", [{ ...planted, text: "await runTask(vsphere, 'Destroy_Task', vm)" }])).toEqual(['src/cli/x.ts'])
  })
})
