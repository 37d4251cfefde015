import { hash } from 'node:crypto'
import { type Abortable, type BlockSource, type DiskRef, type Manifest, type PointId, type Range, totalLength } from '../core/index.ts'
import type { ArchiveOutput } from './archive-output.ts'
import { DigestSpool } from './digest-spool.ts'
import { diskLook, flatDescriptor } from './disk-descriptor.ts'
import { encodeManifest, inFull } from './manifest.ts'
import { PointDraft } from './point-draft.ts'
import { MANIFEST_FILE } from './point-names.ts'
import type { BackupWriter, DiskPlan, DiskProgress, DiskWritten, PointFacts, PointRequest } from './provider.ts'
import { readSegments } from './read-ahead.ts'
import { gatherSegments } from './segment-list.ts'
import { encodeSparseMap } from './sparse-map.ts'
import { type EntryBody, TarStreamWriter } from './tar-stream-writer.ts'
import { plannedPieces, wholeDisk } from './touched-blocks.ts'

export const ARCHIVE_VERSION = 1

export type Incrementals =
  /** Throws INTEGRITY or NOT_FOUND unless an incremental may be built on the parent's disk. */
  | { readonly check: (disk: DiskRef) => Promise<void> }
  /** Incremental plans are answered with the whole disk, for this reason. */
  | { readonly refused: string }

/** One restore point on its way into a tar archive. Disks are put one after the other, however many are asked for at once. */
export class TarWriter implements BackupWriter {
  readonly #id: PointId
  readonly #request: PointRequest
  readonly #incrementals: Incrementals
  readonly #draft: PointDraft
  readonly #tar: TarStreamWriter

  private constructor(id: PointId, request: PointRequest, output: ArchiveOutput, incrementals: Incrementals) {
    this.#id = id
    this.#request = request
    this.#incrementals = incrementals
    this.#draft = new PointDraft(request)
    this.#tar = new TarStreamWriter(output, new Date(request.time))
  }

  static async begin(id: PointId, request: PointRequest, output: ArchiveOutput, incrementals: Incrementals): Promise<TarWriter> {
    const writer = new TarWriter(id, request, output, incrementals)
    try {
      const { run, time, parent, config } = request
      await writer.#tar.file(
        writer.#path('point.json'),
        toJson({ archiveVersion: ARCHIVE_VERSION, point: id, run, time, parent, vm: config.vm }),
      )
      return writer
    } catch (error) {
      await writer[Symbol.asyncDispose]()
      throw error
    }
  }

  async putFile(name: string, body: Uint8Array): Promise<void> {
    this.#draft.addFile(name, body)
    await this.#tar.file(this.#path(name), Uint8Array.from(body))
  }

  async putDisk(
    disk: DiskRef,
    source: BlockSource,
    asked: DiskPlan,
    options: Abortable & { readonly onProgress?: ((progress: DiskProgress) => void) | undefined } = {},
  ): Promise<DiskWritten> {
    const stem = this.#draft.addDisk(disk, source)
    const refused = asked.mode === 'incremental' && 'refused' in this.#incrementals
    const plan: DiskPlan = refused ? { mode: 'full', ranges: wholeDisk(source.size) } : asked
    const counted = { changedBytes: 0, zeroBytes: 0 }
    try {
      if (plan.mode === 'incremental' && 'check' in this.#incrementals) await this.#incrementals.check(disk)
      // tar wants an entry's size in front of it, so the map is decided before anything is read.
      const segments = await gatherSegments(mapOf(source, plan, counted, options))
      return await this.#writeDisk(disk, stem, source, plan, segments, counted, options)
    } catch (error) {
      this.#draft.dropDisk(disk)
      throw error
    }
  }

  async commit(reported: PointFacts): Promise<{ readonly id: PointId; readonly manifest: Manifest }> {
    const facts = 'refused' in this.#incrementals ? inFull(reported, this.#incrementals.refused) : reported
    const manifest = this.#draft.manifest(facts)
    await this.#tar.file(this.#path(MANIFEST_FILE), encodeManifest(manifest))
    await this.#tar.file(this.#path('commit.json'), toJson({ archiveVersion: ARCHIVE_VERSION, entries: this.#tar.entries }))
    await this.#tar.finish()
    return { id: this.#id, manifest }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tar.abort()
  }

  #writeDisk(
    disk: DiskRef,
    stem: string,
    source: BlockSource,
    plan: DiskPlan,
    segments: readonly Range[],
    counted: { readonly changedBytes: number; readonly zeroBytes: number },
    options: Abortable & { readonly onProgress?: ((progress: DiskProgress) => void) | undefined },
  ): Promise<DiskWritten> {
    const map = encodeSparseMap(segments, source.size)
    const dataBytes = totalLength(segments)
    let storedBytes = 0
    let readBytes = 0
    const progress = (): void => {
      const share = dataBytes === 0 ? 1 : storedBytes / dataBytes
      const doneBytes = counted.zeroBytes + Math.round((counted.changedBytes - counted.zeroBytes) * share)
      options.onProgress?.({ doneBytes, readBytes, storedBytes })
    }
    const body: (spool: DigestSpool) => EntryBody = (spool) => async (write) => {
      await write(map)
      progress()
      for await (const { bytes, fromSource } of readSegments(source, segments, options)) {
        await spool.add(bytes)
        await write(bytes)
        storedBytes += bytes.length
        if (fromSource) readBytes += bytes.length
        progress()
      }
    }
    return this.#tar.group(async (entry) => {
      const full = plan.mode === 'full'
      if (full) {
        const look = diskLook(this.#request.config, disk, this.#request.time)
        const descriptor = flatDescriptor(stem, look, [{ path: `${stem}-flat.vmdk`, size: source.size }])
        await entry({ name: this.#path(`${stem}.vmdk`), size: descriptor.length }, (write) => write(descriptor))
      } else {
        const lines = Buffer.from(segments.map(({ offset, length }) => `${offset} ${length}\n`).join(''), 'latin1')
        await entry({ name: this.#path(`${stem}.map`), size: lines.length }, (write) => write(lines))
      }
      await using spool = await DigestSpool.open(this.#request.run)
      const name = full ? `${stem}-flat.vmdk` : `${stem}.changes`
      const pax = {
        'GNU.sparse.major': '1',
        'GNU.sparse.minor': '0',
        'GNU.sparse.name': this.#path(name),
        'GNU.sparse.realsize': String(source.size),
      }
      const header = { name: this.#path(`GNUSparseFile.0/${name}`), size: map.length + dataBytes, pax }
      await entry(header, body(spool), hash('sha256', map))
      const digests = { name: this.#path(`${stem}.sha256blocks`), size: await spool.end() }
      await entry(digests, async (write) => {
        for await (const chunk of spool.chunks()) await write(chunk)
      })
      return { changedBytes: counted.changedBytes, readBytes, storedBytes: map.length + storedBytes }
    })
  }

  #path(name: string): string {
    return `${this.#draft.names.directory}/${name}`
  }
}

/** What of the plan is to be stored: on a full only data, on an incremental also what became zero. Counts on the way. */
async function* mapOf(
  source: BlockSource,
  plan: DiskPlan,
  counted: { changedBytes: number; zeroBytes: number },
  options: Abortable,
): AsyncGenerator<Range> {
  for await (const piece of plannedPieces(plan.ranges, source, options)) {
    counted.changedBytes += piece.length
    if (plan.mode === 'incremental' || piece.kind === 'data') yield piece
    else counted.zeroBytes += piece.length
  }
}

const toJson = (value: unknown): Buffer => Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`, 'utf8')
