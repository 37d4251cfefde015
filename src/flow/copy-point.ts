import {
  type Abortable,
  AgentError,
  anySignal,
  isAgentError,
  type Log,
  type Manifest,
  type PointId,
  type PointSummary,
} from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import type { BackupProvider, BackupReader, BackupWriter, DiskPlan, ParentDigests, PointStore } from '../provider/index.ts'
import { AreaList } from './area-list.ts'
import { recordLocks } from './record-locks.ts'

export type CopyDeps = {
  readonly from: PointStore
  readonly to: BackupProvider
  /** What `to` holds already. */
  readonly there: readonly PointSummary[]
  /** Where destinations keep what does not go into them at once. */
  readonly temporary: string
  readonly log: Log
}

export type CopyOptions = Abortable & {
  /** `doneBytes` of the disk's size, decided so far. */
  readonly onProgress?: ((at: { readonly disk: string; readonly doneBytes: number; readonly totalBytes: number }) => void) | undefined
}

/** A point as it stands in the other repository. */
export type CopiedPoint = {
  readonly id: PointId
  readonly manifest: Manifest
  /** Bytes read from the first repository, and bytes the copy added to the other one. */
  readonly readBytes: number
  readonly storedBytes: number
}

/** The same moment of the same VM, made by the same run: what a copy keeps of its point, whatever its id becomes. */
export function copyOf(point: PointSummary, there: readonly PointSummary[]): PointSummary | undefined {
  return there.find(
    (other) =>
      other.run === point.run &&
      other.instanceUuid === point.instanceUuid &&
      other.vcenterUuid === point.vcenterUuid &&
      Date.parse(other.time) === Date.parse(point.time),
  )
}

/**
 * Stores a restore point a second time, in another repository of any kind: every block is verified as it is read, hashed as it is stored, and the copy is
 * listed only when it is whole. Where both sides tell the digests of their blocks, only what the VM's newest earlier point there does not have is read.
 * Run, time and how the disks were read stay those of the point. Removes nothing anywhere. Errors: those of both sides.
 */
export async function copyPoint(deps: CopyDeps, claims: Claims, point: PointSummary, options: CopyOptions): Promise<CopiedPoint> {
  await using hold = await deps.from.hold({ signal: options.signal, recordLocks: recordLocks(claims) })
  const signal = anySignal(options.signal, hold.signal)
  await using reader = await deps.from.open(point.id, { signal })
  const { manifest } = reader
  // What is half written may have the run of the point in its name, not that of the copying.
  const half = { url: deps.to.url, run: manifest.run, temporary: deps.temporary }
  const { id: writing } = await claims.take('repositoryWrite', half, [], async () => half)
  const parent = deps.to.digests.ok ? newestBefore(point, deps.there) : undefined
  await using writer = await deps.to.begin(
    { config: manifest.config, run: manifest.run, time: manifest.time, parent: parent?.id },
    { signal, recordLocks: recordLocks(claims) },
  )
  for (const { name } of manifest.files) await writer.putFile(name, await reader.file(name, { signal }), { signal })
  let readBytes = 0
  let storedBytes = 0
  const disks: Manifest['disks'][number][] = []
  for (const facts of manifest.disks) {
    const disk = manifest.config.disks.find(({ key }) => key === facts.key)
    if (disk === undefined) throw new AgentError('INTEGRITY', `The point ${point.id} has no configuration of its disk ${facts.label}.`)
    await using source = await reader.disk(facts.key, { signal })
    const differing = parent === undefined ? undefined : await compared(deps.log, reader, writer, disk, { signal })
    const plan: DiskPlan = differing === undefined ? wholeOf(source.size) : { mode: 'incremental', ranges: streamed(differing) }
    const totalBytes = differing?.bytes ?? source.size
    const written = await writer.putDisk(disk, source, plan, {
      signal,
      onProgress: ({ doneBytes }) => options.onProgress?.({ disk: facts.label, doneBytes, totalBytes }),
    })
    readBytes += written.readBytes
    storedBytes += written.storedBytes
    disks.push({ ...facts, storedBytes: written.storedBytes })
  }
  const { mode, consistency, consistencyReason, notProtected } = manifest
  const made = await writer.commit({ mode, consistency, consistencyReason, notProtected, disks }, { signal })
  await claims.release(writing)
  return { ...made, readBytes, storedBytes }
}

function newestBefore(point: PointSummary, there: readonly PointSummary[]): PointSummary | undefined {
  const earlier = there.filter(
    (other) =>
      other.instanceUuid === point.instanceUuid &&
      other.vcenterUuid === point.vcenterUuid &&
      Date.parse(other.time) < Date.parse(point.time),
  )
  return earlier.toSorted((a, b) => Date.parse(b.time) - Date.parse(a.time))[0]
}

/** Blocks looked up at once. */
const WINDOW = 512
const DIGEST_BYTES = 32

/** Where the disk differs from what the other repository holds of it; undefined when that cannot be told, and everything is read. */
async function compared(
  log: Log,
  reader: BackupReader,
  writer: BackupWriter,
  disk: Manifest['config']['disks'][number],
  options: Abortable,
): Promise<AreaList | undefined> {
  try {
    const there = await writer.parentDigests?.(disk, options)
    const here = await reader.digests?.(disk.key, options)
    if (there === undefined || here === undefined || there.blockSize !== here.blockSize) return undefined
    return await differences(here, there, disk.capacityBytes, options)
  } catch (error) {
    if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND')) throw error
    log.info('a disk is copied whole', { disk: disk.label, reason: error.message })
    return undefined
  }
}

async function differences(here: ParentDigests, there: ParentDigests, size: number, options: Abortable): Promise<AreaList> {
  const areas = new AreaList()
  const { blockSize } = here
  const blocks = Math.ceil(size / blockSize)
  for (let first = 0; first < blocks; first += WINDOW) {
    const count = Math.min(WINDOW, blocks - first)
    const [now, before] = await Promise.all([here.of(first, count, options), there.of(first, count, options)])
    for (let index = 0; index < count; index++) {
      const at = index * DIGEST_BYTES
      const end = at + DIGEST_BYTES
      const offset = (first + index) * blockSize
      if (Buffer.compare(now.subarray(at, end), before.subarray(at, end)) !== 0)
        areas.add({ offset, length: Math.min(blockSize, size - offset) })
    }
  }
  return areas
}

const wholeOf = (size: number): DiskPlan => ({ mode: 'full', ranges: streamed([{ offset: 0, length: size }]) })

async function* streamed(ranges: Iterable<{ readonly offset: number; readonly length: number }>): AsyncGenerator<{
  readonly offset: number
  readonly length: number
}> {
  yield* ranges
}
