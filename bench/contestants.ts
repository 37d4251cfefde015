import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { DiskBackup } from './backup-disk.ts'
import { type Cost, measure } from './measure.ts'

/** Who takes part: a program that backs the disk up and gives it back. A round has a repository of its own. */
export interface Contestant {
  readonly name: string
  readonly version: string
  /** Makes the repository of a round; not timed. */
  prepare(round: number): Promise<void>
  full(round: number): Promise<Cost>
  /** The disk as it is now, once more into the same repository. */
  second?(round: number): Promise<Cost>
  /** The disk as it was last stored, into a raw file in this empty directory; `synced`: the time to have it on the disk counts. */
  restore?(round: number, directory: string, synced: boolean): Promise<Cost>
  repositoryBytes(round: number): number
  /** The repository of a round, a directory or a file. */
  repository(round: number): string
}

export type Places = {
  /** Everything lies below it. */
  readonly work: string
  /** The measured programs as the build makes them: `backup-disk.js`, `restore-disk.js`. */
  readonly programs: string
  /** The raw disk, and the VMDK over it. */
  readonly flat: string
  readonly vmdk: string
  readonly passwordFile: string
}

/** A command, and the time until what it wrote is on the disk. */
const withSync = (directory: string, command: readonly string[]): readonly string[] => [
  'bash',
  '-c',
  '"$@" && sync -f "$0"',
  directory,
  ...command,
]

const run = ([command = '', ...args]: readonly string[], environment: Readonly<Record<string, string>> = {}) =>
  measure(command, args, environment)

export const bytesIn = (folder: string): number =>
  Number(execFileSync('du', ['-s', '--apparent-size', '--block-size=1', folder], { encoding: 'utf8' }).split('\t')[0])

/** The first line that a program prints of its version; undefined when it is not there. */
export function versionOf(command: string, ...args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n')[0]
  } catch {
    return undefined
  }
}

/** Where an agent with this state directory keeps the index of its repositories; restic has a cache as well. */
export const indexCache = ({ work }: Pick<Places, 'work'>): string => join(work, 'state', 'cache', 'index')

/** A restic repository as stock restic makes it, with the password of somebody, which opens it after half a second of scrypt. */
const initRepository = (repository: string, { passwordFile }: Places) =>
  run(['restic', '--repo', repository, '--password-file', passwordFile, '--quiet', 'init', '--repository-version', '2'])

const keyOf = (repository: string): string => `${repository}.key`

/** Adds a key of 256 random bits, which opens at once. Both vcb and restic work with one: what scrypt takes is the same for both, and has nothing to do with the disk. */
async function addRandomKey(repository: string, { work, passwordFile }: Places): Promise<void> {
  const command = join(import.meta.dirname, '..', 'scripts', 'vcb.cjs')
  const flags = ['--repo', repository, '--repo-password-file', passwordFile, '--state-dir', join(work, 'state')]
  await run([process.execPath, command, 'key', 'add', '--random', keyOf(repository), ...flags])
}

/** restic tries keys in the order of their names; with one alone it finds it at once. */
async function removeOtherKeys(repository: string): Promise<void> {
  const restic = ['--repo', repository, '--password-file', keyOf(repository)]
  const { output } = await measure('restic', [...restic, '--json', 'key', 'list'], {})
  for (const { current, id } of JSON.parse(output) as readonly { readonly current: boolean; readonly id: string }[])
    if (!current) await run(['restic', ...restic, '--quiet', 'key', 'remove', id])
}

/** Stock restic with its defaults: version 2 repository, compression auto. It reads and chunks the whole file both times. */
export class Restic implements Contestant {
  readonly name = 'restic'
  readonly version: string
  readonly #places: Places

  constructor(places: Places, version: string) {
    this.#places = places
    this.version = version
  }

  async prepare(round: number): Promise<void> {
    const repository = this.repository(round)
    await initRepository(repository, this.#places)
    await addRandomKey(repository, this.#places)
    await removeOtherKeys(repository)
  }

  full(round: number): Promise<Cost> {
    return this.#restic(round, ['backup', this.#places.flat])
  }

  second(round: number): Promise<Cost> {
    return this.full(round)
  }

  restore(round: number, directory: string, synced: boolean): Promise<Cost> {
    return this.#restic(round, ['restore', 'latest', '--target', directory], synced ? directory : undefined)
  }

  repositoryBytes(round: number): number {
    return bytesIn(this.repository(round))
  }

  repository(round: number): string {
    return join(this.#places.work, `restic-${round}`)
  }

  #restic(round: number, args: readonly string[], sync?: string): Promise<Cost> {
    const repository = this.repository(round)
    const command = ['restic', '--repo', repository, '--password-file', keyOf(repository), '--quiet', ...args]
    return run(sync === undefined ? command : withSync(sync, command), { RESTIC_CACHE_DIR: join(this.#places.work, 'cache') })
  }
}

/** borg as it suits a disk best: chunks of 4 MiB that are not searched for, zstd 3; without encryption, which the others have. */
export class Borg implements Contestant {
  readonly name = 'borg'
  readonly version: string
  readonly #places: Places
  #stored = 0

  constructor(places: Places, version: string) {
    this.#places = places
    this.version = version
  }

  async prepare(round: number): Promise<void> {
    await this.#borg(['init', '--encryption', 'none', this.repository(round)])
  }

  full(round: number): Promise<Cost> {
    const how = ['--chunker-params', 'fixed,4194304', '--compression', 'zstd,3', '--sparse']
    return this.#borg(['create', ...how, `${this.repository(round)}::${this.#stored++}`, this.#places.flat])
  }

  second(round: number): Promise<Cost> {
    return this.full(round)
  }

  async restore(round: number, directory: string, synced: boolean): Promise<Cost> {
    const last = execFileSync('borg', ['list', '--short', '--last', '1', this.repository(round)], {
      encoding: 'utf8',
      env: { ...process.env, ...this.#environment },
    })
    const command = ['borg', 'extract', '--sparse', `${this.repository(round)}::${last.trim()}`]
    const there = ['bash', '-c', 'cd "$0" && "$@"', directory, ...command]
    return run(synced ? withSync(directory, there) : there, this.#environment)
  }

  repositoryBytes(round: number): number {
    return bytesIn(this.repository(round))
  }

  repository(round: number): string {
    return join(this.#places.work, `borg-${round}`)
  }

  get #environment(): Record<string, string> {
    return { BORG_BASE_DIR: join(this.#places.work, 'borg'), BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes' }
  }

  #borg(args: readonly string[]): Promise<Cost> {
    return run(['borg', ...args], this.#environment)
  }
}

/** The product, in a repository that stock restic made. A second backup gets the list of what changed, as change tracking gives it. */
export class Vcb implements Contestant {
  readonly name = 'vcb'
  readonly version: string
  /** The last backup of each round. */
  readonly last: DiskBackup[] = []
  /** Ranges that have changed since the last backup, a file of JSON. */
  changed = ''
  readonly #places: Places

  constructor(places: Places, version: string) {
    this.#places = places
    this.version = version
  }

  async prepare(round: number): Promise<void> {
    await initRepository(this.repository(round), this.#places)
    await addRandomKey(this.repository(round), this.#places)
  }

  async full(round: number): Promise<Cost> {
    return this.backUp(round, [this.#places.vmdk])
  }

  async second(round: number): Promise<Cost> {
    return this.backUp(round, [this.#places.vmdk], ['--parent', this.last[round]?.point ?? '', '--changed', this.changed])
  }

  /** The same with the password of somebody. */
  async secondWithPassword(round: number): Promise<Cost> {
    const more = ['--parent', this.last[round]?.point ?? '', '--changed', this.changed]
    return this.backUp(round, [this.#places.vmdk], more, this.#places.passwordFile)
  }

  /** A backup of these disks, and what it read and stored. */
  async backUp(
    round: number,
    vmdks: readonly string[],
    more: readonly string[] = [],
    passwordFile = this.passwordFile(round),
  ): Promise<Cost & DiskBackup> {
    const where = ['--repository', this.repository(round), '--password-file', passwordFile, '--cache', indexCache(this.#places)]
    const { output, ...cost } = await run([...this.#node('backup-disk.js'), ...where, ...more, ...vmdks], this.#environment)
    const told = JSON.parse(output.trim().split('\n').at(-1) ?? '') as DiskBackup
    this.last[round] = told
    return { ...cost, ...told }
  }

  async restore(round: number, directory: string, synced: boolean): Promise<Cost> {
    const command = [
      ...this.#node('restore-disk.js'),
      this.repository(round),
      this.passwordFile(round),
      indexCache(this.#places),
      this.last[round]?.point ?? '',
      directory,
    ]
    return run(synced ? withSync(directory, command) : command, this.#environment)
  }

  repositoryBytes(round: number): number {
    return bytesIn(this.repository(round))
  }

  repository(round: number): string {
    return join(this.#places.work, `vcb-${round}`)
  }

  /** That of the random key. */
  passwordFile(round: number): string {
    return keyOf(this.repository(round))
  }

  /** With the heap that a command keeps. */
  #node(script: string): readonly string[] {
    const heap = join(import.meta.dirname, '..', 'scripts', 'heap.cjs')
    return [process.execPath, '--require', heap, join(this.#places.programs, script)]
  }

  get #environment(): Record<string, string> {
    return { NODE_COMPILE_CACHE: join(this.#places.work, 'compiled') }
  }
}

/** `cp`: what this machine needs to have the bytes somewhere else. Holes stay holes. */
export class Copy implements Contestant {
  readonly name = 'cp'
  readonly version: string
  readonly #places: Places

  constructor(places: Places, version: string) {
    this.#places = places
    this.version = version
  }

  async prepare(round: number): Promise<void> {
    mkdirSync(this.repository(round))
  }

  async full(round: number): Promise<Cost> {
    const cost = await this.restore(round, this.repository(round), false)
    // Only the first one's size is looked at, and five of them are twenty gigabytes.
    if (round > 0) rmSync(this.repository(round), { recursive: true })
    return cost
  }

  restore(_round: number, directory: string, synced: boolean): Promise<Cost> {
    const command = ['cp', this.#places.flat, join(directory, 'copy.raw')]
    return run(synced ? withSync(directory, command) : command)
  }

  repositoryBytes(round: number): number {
    return bytesIn(this.repository(round))
  }

  repository(round: number): string {
    return join(this.#places.work, `cp-${round}`)
  }
}

/** qemu-img into a qcow2 of zstd clusters, no index, no encryption, no second backup. */
export class QemuImg implements Contestant {
  readonly name = 'qemu-img'
  readonly version: string
  readonly #places: Places

  constructor(places: Places, version: string) {
    this.#places = places
    this.version = version
  }

  async prepare(): Promise<void> {}

  full(round: number): Promise<Cost> {
    const how = ['-f', 'raw', '-O', 'qcow2', '-c', '-o', 'compression_type=zstd', '-W', '-m', '2']
    return run(['qemu-img', 'convert', ...how, this.#places.flat, this.repository(round)])
  }

  restore(round: number, directory: string, synced: boolean): Promise<Cost> {
    const command = [
      'qemu-img',
      'convert',
      '-f',
      'qcow2',
      '-O',
      'raw',
      '-W',
      '-m',
      '2',
      this.repository(round),
      join(directory, 'restored.raw'),
    ]
    return run(synced ? withSync(directory, command) : command)
  }

  repositoryBytes(round: number): number {
    return bytesIn(this.repository(round))
  }

  repository(round: number): string {
    return join(this.#places.work, `qemu-${round}.qcow2`)
  }
}

/** nbdcopy out of `nbdkit file`: how fast a network block device gives the bytes into a file. */
export class NbdCopy implements Contestant {
  readonly name = 'nbdcopy'
  readonly version: string
  readonly #places: Places

  constructor(places: Places, version: string) {
    this.#places = places
    this.version = version
  }

  async prepare(): Promise<void> {}

  async full(round: number): Promise<Cost> {
    const cost = await run(['nbdcopy', '--', '[', 'nbdkit', '--exit-with-parent', 'file', this.#places.flat, ']', this.repository(round)])
    if (round > 0) rmSync(this.repository(round))
    return cost
  }

  repositoryBytes(round: number): number {
    return bytesIn(this.repository(round))
  }

  repository(round: number): string {
    return join(this.#places.work, `nbdcopy-${round}.raw`)
  }
}
