import { access, constants, readFile } from 'node:fs/promises'
import { type Clock, findProgram, isMissing, runProgram, type Verdict } from '../../core/index.ts'
import type { FileSystemType } from '../volumes/volume.ts'
import { mountKind } from './mount-kind.ts'

const PATIENCE_MS = 10_000

/** Whether this proxy can show one kind of thing, and what to do when it cannot. */
export type MountAbility = {
  /** `raw files`, or a type of file system. */
  readonly what: 'raw files' | FileSystemType
  readonly verdict: Verdict
  readonly next: string | undefined
}

type Deps = { readonly clock: Clock }

/** In the order they are shown. */
const TYPES: readonly FileSystemType[] = ['ext4', 'ext3', 'ext2', 'xfs', 'btrfs', 'ntfs', 'fat', 'exfat', 'iso9660', 'udf']

/** Everything this proxy can show or cannot. Starts programs that look, and changes nothing. */
export async function mountAbilities(deps: Deps): Promise<readonly MountAbility[]> {
  const raw = await rawAbility()
  const abilities: MountAbility[] = [raw]
  for (const type of TYPES) abilities.push(raw.verdict.ok ? await volumeAbility(type, deps) : { ...raw, what: type })
  return abilities
}

/** Whether a file system of this type can be mounted from a disk. */
export async function volumeAbility(type: FileSystemType, deps: Deps): Promise<MountAbility> {
  const raw = await rawAbility()
  if (!raw.verdict.ok) return { ...raw, what: type }
  const kind = mountKind(type)
  if (kind.by === 'us') return { what: type, verdict: { ok: true, note: 'vcb itself' }, next: undefined }
  if (kind.by === 'program') {
    return (await isProgram(kind.program))
      ? { what: type, verdict: { ok: true, note: kind.program }, next: undefined }
      : no(type, `the program ${kind.program} is missing`, `Install the package ${kind.program}.`)
  }
  if (!(await isDevice('/dev/loop-control'))) return no(type, 'the kernel has no loop devices', 'Load the kernel module loop.')
  if (!(await isProgram('losetup'))) return no(type, 'the program losetup is missing', 'Install the package mount.')
  if (await kernelKnows(kind.type, deps)) return { what: type, verdict: { ok: true, note: `kernel, ${kind.type}` }, next: undefined }
  return no(
    type,
    `the kernel of this proxy has no ${kind.type}`,
    `Use a proxy whose kernel has ${kind.type}, or take the disk as a raw file to a tool that reads it.`,
  )
}

/** Raw files need FUSE and root; volumes need them too. */
async function rawAbility(): Promise<MountAbility> {
  const what = 'raw files'
  if (process.geteuid?.() !== 0)
    return no(what, 'only root can mount', 'Run vcb as root where files are to be shown; an NBD export needs no root.')
  if (!(await isDevice('/dev/fuse')))
    return no(what, 'there is no /dev/fuse', 'Load the kernel module fuse; a container needs the device passed in.')
  for (const program of ['mount', 'umount', 'dd']) {
    if (!(await isProgram(program))) return no(what, `the program ${program} is missing`, 'Install the packages mount and coreutils.')
  }
  return { what, verdict: { ok: true, note: 'FUSE' }, next: undefined }
}

const no = (what: MountAbility['what'], reason: string, next: string): MountAbility => ({ what, verdict: { ok: false, reason }, next })

/** Built in or loaded, or a module that mounting loads. */
async function kernelKnows(type: string, { clock }: Deps): Promise<boolean> {
  const known = (await readFile('/proc/filesystems', 'utf8')).split('\n').map((line) => line.trim())
  if (known.includes(type)) return true
  if (!(await isProgram('modprobe'))) return false
  const ended = await runProgram('modprobe', ['--dry-run', '--quiet', `fs-${type}`], { clock, patienceMs: PATIENCE_MS, reads: true })
  return ended.exit === 0
}

const isProgram = async (name: string): Promise<boolean> => (await findProgram(name)) !== undefined

async function isDevice(path: string): Promise<boolean> {
  try {
    await access(path, constants.R_OK | constants.W_OK)
    return true
  } catch (error) {
    if (isMissing(error) || (error instanceof Error && 'code' in error && error.code === 'EACCES')) return false
    throw error
  }
}
