import { stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import type { Writable } from 'node:stream'
import {
  type Abortable,
  AgentError,
  type DiskRef,
  ensureDirectory,
  fromErrno,
  isMissing,
  type Log,
  type PointId,
  type RunId,
  type Verdict,
} from '../core/index.ts'
import { type ArchiveOutput, fileOutput, recordOutput, streamOutput } from './archive-output.ts'
import { PointNames, pointName } from './point-names.ts'
import type { BackupProvider, BackupWriter, PointRequest } from './provider.ts'
import { TarPoints } from './tar-points.ts'
import { TarWriter } from './tar-writer.ts'

export type TarProviderOptions = Abortable & {
  readonly init?: boolean | undefined
  readonly stdout?: Writable | undefined
  readonly log: Log
}

/** A directory of archives, one archive file (`NAME.tar`), a tape or pipe, or standard output (`-`). */
export async function openTarProvider(path: string, options: TarProviderOptions): Promise<BackupProvider> {
  if (path === '-') {
    const { stdout } = options
    if (stdout === undefined) throw new AgentError('CONFIG', 'There is no standard output to write an archive to.')
    return new TarProvider('tar:-', undefined, async () => streamOutput(stdout))
  }
  const place = resolve(path)
  const kind = await kindOf(place)
  const url = `tar:${place}`
  if (kind === 'device') return new TarProvider(url, undefined, () => recordOutput(place))
  if (kind === 'file' || (kind === 'missing' && place.endsWith('.tar'))) {
    const points = new TarPoints({ directory: dirname(place), only: basename(place) }, url, options.log)
    return new TarProvider(url, points, (_id, run) => fileOutput(place, run), basename(place, '.tar') as PointId)
  }
  if (kind === 'missing') {
    if (options.init !== true) {
      throw new AgentError('NOT_FOUND', `There is no directory ${place} for archives.`, {
        subject: place,
        next: 'Make it with --init, or name another.',
      })
    }
    await ensureDirectory(place)
  }
  const points = new TarPoints({ directory: place }, url, options.log)
  return new TarProvider(url, points, (id, run) => fileOutput(points.pathOf(id), run))
}

async function kindOf(path: string): Promise<'missing' | 'file' | 'directory' | 'device'> {
  try {
    const found = await stat(path)
    return found.isDirectory() ? 'directory' : found.isFile() ? 'file' : 'device'
  } catch (error) {
    if (isMissing(error)) return 'missing'
    throw fromErrno(error, path) ?? error
  }
}

class TarProvider implements BackupProvider {
  readonly name = 'tar'
  readonly url: string
  readonly points: TarPoints | undefined
  readonly incremental: Verdict
  readonly digests: Verdict = { ok: false, reason: 'an archive keeps digests of its data, not of the blocks of a disk' }
  readonly #output: (id: PointId, run: RunId) => Promise<ArchiveOutput>
  /** Name of the only point there can be. */
  readonly #only: PointId | undefined

  constructor(url: string, points: TarPoints | undefined, output: (id: PointId, run: RunId) => Promise<ArchiveOutput>, only?: PointId) {
    this.url = url
    this.points = points
    this.#output = output
    this.#only = only
    this.incremental =
      points === undefined || only !== undefined
        ? { ok: false, reason: 'a single archive or a tape has no parent beside it to build an incremental on' }
        : { ok: true, note: 'an incremental archive holds only what changed and needs the archives it builds on' }
  }

  async begin(request: PointRequest): Promise<BackupWriter> {
    const id = this.#only ?? (pointName(new PointNames(request.config).directory, request.time, request.run) as PointId)
    const output = await this.#output(id, request.run)
    const { incremental } = this
    return TarWriter.begin(
      id,
      request,
      output,
      incremental.ok ? { check: (disk) => this.#checkParent(request, disk) } : { refused: incremental.reason },
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Holds nothing open; standard output belongs to the caller.
  }

  /** The parent must be readable now, or the incremental would be worth nothing. */
  async #checkParent(request: PointRequest, disk: DiskRef): Promise<void> {
    const full = { subject: disk.label, next: 'Take a full backup of this disk.' }
    if (request.parent === undefined || this.points === undefined) {
      throw new AgentError('INTEGRITY', `An incremental of disk ${disk.label} has no parent point to build on.`, full)
    }
    await using parent = await this.points.open(request.parent)
    if (parent.manifest.vm.instanceUuid !== request.config.vm.instanceUuid) {
      throw new AgentError(
        'INTEGRITY',
        `The point ${parent.id} is of the VM ${parent.manifest.vm.name}, not of ${request.config.vm.name}.`,
        full,
      )
    }
    if (parent.manifest.images.find(({ key }) => key === disk.key)?.capacityBytes !== disk.capacityBytes) {
      throw new AgentError('INTEGRITY', `The parent point ${parent.id} does not hold this disk in its present size.`, full)
    }
    await using _opened = await parent.disk(disk.key)
  }
}
