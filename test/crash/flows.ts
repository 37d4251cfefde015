import { join } from 'node:path'
import type { Place } from './place.ts'
import type { TemplateName } from './templates.ts'

/** One command line whose every effect is cut. Adding a flow is one entry below. */
export type Flow = {
  readonly name: string
  readonly about: string
  /** The world it starts from. */
  readonly template: TemplateName
  readonly argv: (place: Place) => readonly string[]
  /** It talks to vSphere: the cut needs a lab. */
  readonly lab: boolean
  /** It works on several VMs at once: its effects come in another order each time. */
  readonly anyOrder?: true
  /** The repository, where it is not the restic one: `tar:` or `dir:` in front of the path. */
  readonly scheme?: 'tar' | 'dir'
  /** It goes to the host itself, whose licence lets the API only show, and works in its shell. */
  readonly toHost?: true
  /** It makes this VM. */
  readonly restoresVm?: {
    /** Name the VM has at the end. */
    readonly name: string
    /** A VM of this name is there before and is to be replaced. */
    readonly replaces: boolean
    /** The VM whose last point it is made from. */
    readonly of: string
  }
  /** It writes this directory below `restored`. */
  readonly restoresDirectory?: { readonly name: string; readonly of: string }
  /** It mounts something, where this machine can. */
  readonly mounts?: true
  /** It may take all points from the list but the last one of each VM. */
  readonly forgets?: true
  /** What it was to undo is nobody's job: the command is run again after recovery, and must come to its end. */
  readonly again?: true
  /** It adds a key to the repository, and makes the file of its password. */
  readonly addsKey?: true
  /** The jobs of its configuration. */
  readonly jobs?: (place: Place) => readonly object[]
  /** Backed up after the recovery of sampled cuts, to see that nothing stands in the way. */
  readonly next: string
}

export const newKeyFile = (place: Place): string => join(place.world, 'repo-key')

/** A lease that ends by itself soon after it is ready, however long that took, in the command's own process. */
const BRIEFLY: readonly string[] = ['--idle', '300ms', '--foreground']

const forgetFlow = (scheme?: 'tar' | 'dir'): Flow => ({
  name: scheme === undefined ? 'forget' : `forget-${scheme}`,
  about: `two of three points are forgotten, ${scheme === undefined ? 'in a restic repository' : `of ${scheme}:`}`,
  template: 'history',
  argv: () => ['forget', '--keep-last', '1'],
  lab: false,
  ...(scheme === undefined ? {} : { scheme }),
  forgets: true,
  next: 'beta',
})
const directoryFlow = (format: string, of: string): Flow => ({
  name: `restore-directory-${format}`,
  about: `restore of ${of === 'gamma' ? 'three disks' : 'a disk'} to a directory, format ${format}`,
  template: 'points',
  argv: (place) => ['restore', `${of}@latest`, '--to-dir', join(place.restored, of), '--format', format],
  lab: false,
  restoresDirectory: { name: of, of },
  next: of,
})

export const flows: readonly Flow[] = [
  {
    name: 'full',
    about: 'full backup of a running VM that has snapshots of a user and of another product',
    template: 'empty',
    argv: () => ['backup', 'alpha', '--mode', 'full', '--quiesce', 'none'],
    lab: true,
    next: 'alpha',
  },
  {
    name: 'incremental',
    about: 'incremental backup on the point before, over the network, of a VM whose guest has to be quiesced',
    template: 'points',
    argv: () => ['backup', 'beta', '--mode', 'incremental', '--quiesce', 'require', '--transport', 'https'],
    lab: true,
    next: 'beta',
  },
  {
    name: 'lease',
    about: 'full backup of three disks over export leases',
    template: 'empty',
    argv: () => ['backup', 'gamma', '--mode', 'full', '--quiesce', 'none', '--transport', 'lease'],
    lab: true,
    next: 'gamma',
  },
  {
    name: 'ssh',
    about: 'full backup of a host with the free licence: its snapshot is made and removed with vim-cmd, its disk read in the shell',
    template: 'empty',
    argv: () => ['backup', 'beta', '--mode', 'full', '--quiesce', 'none', '--transport', 'ssh'],
    lab: true,
    toHost: true,
    next: 'beta',
  },
  {
    name: 'hotadd',
    about: 'full backup of a disk attached to the proxy VM; alone covers the claim attachedDisk',
    template: 'empty',
    argv: () => ['backup', 'beta', '--mode', 'full', '--quiesce', 'none', '--transport', 'hotadd'],
    lab: true,
    next: 'beta',
  },
  {
    name: 'several-disks',
    about: 'backup of a VM with three disks',
    template: 'points',
    argv: () => ['backup', 'gamma'],
    lab: true,
    next: 'gamma',
  },
  {
    name: 'several-vms',
    about: 'three VMs at once',
    template: 'empty',
    argv: () => ['backup', 'alpha', 'beta', 'gamma', '--parallel', '3'],
    lab: true,
    anyOrder: true,
    next: 'alpha',
  },
  {
    name: 'change-tracking',
    about: 'change tracking is switched on, with its snapshot cycle',
    template: 'empty',
    argv: () => ['backup', 'delta'],
    lab: true,
    next: 'delta',
  },
  {
    name: 'backup-tar',
    about: 'backup to an archive',
    template: 'bare',
    argv: () => ['backup', 'beta', '--init'],
    lab: true,
    scheme: 'tar',
    next: 'beta',
  },
  {
    name: 'backup-dir',
    about: 'backup to a directory of VMDK files',
    template: 'bare',
    argv: () => ['backup', 'beta', '--init'],
    lab: true,
    scheme: 'dir',
    next: 'beta',
  },
  {
    name: 'stages',
    about:
      'a run of a job with programs of the proxy around it, each of which undoes what the one before its stage did; alone covers the claim stagePrograms',
    template: 'empty',
    argv: () => ['agent', '--once'],
    lab: true,
    anyOrder: true,
    jobs: (place) => [
      {
        name: 'nightly',
        select: 'alpha',
        rpo: '24h',
        full: 'always',
        quiesce: 'none',
        stages: [
          { at: 'preRun', command: ['/usr/bin/touch', join(place.temporary, 'paused')] },
          { at: 'preSnapshot', command: ['/usr/bin/touch', join(place.temporary, 'stopped')] },
          { at: 'postSnapshot', command: ['/bin/rm', '-f', join(place.temporary, 'stopped')] },
          { at: 'postStore', command: ['/bin/true'] },
          { at: 'postRun', command: ['/bin/rm', '-f', join(place.temporary, 'paused')] },
        ],
      },
    ],
    next: 'alpha',
  },
  {
    name: 'restore-lease',
    about: 'restore as a new VM through an import lease',
    template: 'points',
    argv: () => ['restore', 'beta@latest', '--to-vcenter', '--name', 'copy'],
    lab: true,
    restoresVm: { name: 'copy', replaces: false, of: 'beta' },
    next: 'beta',
  },
  {
    name: 'restore-folder',
    about: 'restore as a new VM through datastore files',
    template: 'points',
    argv: () => ['restore', 'beta@latest', '--to-vcenter', '--name', 'copy', '--via', 'folder', '--to-datastore', 'restore1'],
    lab: true,
    restoresVm: { name: 'copy', replaces: false, of: 'beta' },
    next: 'beta',
  },
  // Covers what no other restore does: the claims of a VM that is registered while its disk is still being written.
  {
    name: 'restore-nbdssl',
    about: 'restore as a new VM whose disk is written over NFC',
    template: 'points',
    argv: () => ['restore', 'beta@latest', '--to-vcenter', '--name', 'copy', '--transport', 'nbdssl', '--to-datastore', 'restore1'],
    lab: true,
    restoresVm: { name: 'copy', replaces: false, of: 'beta' },
    next: 'beta',
  },
  {
    name: 'restore-overwrite-lease',
    about: 'restore over a VM that is off, then power on',
    template: 'points',
    argv: () => ['restore', 'omega@latest', '--to-vcenter', '--overwrite', '--power-on', '--keep-identity'],
    lab: true,
    restoresVm: { name: 'omega', replaces: true, of: 'omega' },
    next: 'beta',
  },
  {
    name: 'restore-overwrite-folder',
    about: 'the same through datastore files',
    template: 'points',
    argv: () => ['restore', 'omega@latest', '--to-vcenter', '--overwrite', '--power-on', '--via', 'folder'],
    lab: true,
    restoresVm: { name: 'omega', replaces: true, of: 'omega' },
    next: 'beta',
  },
  directoryFlow('flat', 'gamma'),
  directoryFlow('split-sparse', 'beta'),
  directoryFlow('streamOptimized', 'beta'),
  {
    name: 'mount',
    about:
      'a snapshot shown as an NBD export, a raw file and exported files until its lease ends by itself; alone covers the claims mountDirectory and fuseMount',
    template: 'empty',
    argv: (place) => ['mount', 'beta', join(place.restored, 'shown'), '--type', 'disk,export', '--quiesce', 'none', ...BRIEFLY],
    lab: true,
    mounts: true,
    next: 'beta',
  },
  {
    name: 'mount-file',
    about: 'its file systems mounted until the lease ends by itself; alone covers the claims loopDevice and volumeMount',
    template: 'files',
    argv: (place) => ['mount', 'omega', join(place.restored, 'shown'), '--type', 'file', '--quiesce', 'none', ...BRIEFLY],
    lab: true,
    mounts: true,
    next: 'omega',
  },
  {
    name: 'init',
    about: 'a new repository',
    template: 'bare',
    argv: () => ['init'],
    lab: false,
    next: 'beta',
  },
  {
    name: 'key-add',
    about: 'a key of random bits, and the file with its password; alone covers the claim repositoryKey',
    template: 'empty',
    argv: (place) => ['key', 'add', '--random', newKeyFile(place)],
    lab: false,
    addsKey: true,
    next: 'beta',
  },
  forgetFlow(),
  forgetFlow('tar'),
  forgetFlow('dir'),
  {
    name: 'prune',
    about: 'packs in no use are removed, those partly used written anew',
    template: 'forgotten',
    argv: () => ['prune', '--max-unused', '0'],
    lab: false,
    again: true,
    next: 'beta',
  },
  {
    name: 'orphans',
    about: 'a snapshot and a half-restored VM whose journal is lost are removed',
    template: 'orphans',
    argv: () => ['orphans', '--remove'],
    lab: true,
    again: true,
    next: 'beta',
  },
  {
    name: 'check',
    about: 'the whole repository is read and verified',
    template: 'points',
    argv: () => ['check'],
    lab: false,
    next: 'beta',
  },
]

export function flowNamed(name: string): Flow {
  const found = flows.find((flow) => flow.name === name)
  if (found === undefined) throw new Error(`There is no flow ${name}; there are ${flows.map((flow) => flow.name).join(', ')}.`)
  return found
}
