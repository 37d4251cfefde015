import { hash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import {
  type Abortable,
  AgentError,
  type BlockSource,
  type DiskRef,
  ensureDirectory,
  fromErrno,
  isMissing,
  type Log,
  makeDirectory,
  type Manifest,
  type PointId,
  type Range,
  removeFile,
  removeTree,
  renameFile,
  syncDirectory,
  type Verdict,
  type VmConfig,
  writeFileAtomic,
} from '../core/index.ts'
import { type ExportFormat, localDiskFiles, openChain, openLocalFile } from '../disk/index.ts'
import { writeBlockDigests } from './block-digests.ts'
import { DirPoints, digestOf, SUMS_FILE } from './dir-points.ts'
import { encodeManifest, inFull, type StoredManifest } from './manifest.ts'
import { PlannedSource } from './planned-source.ts'
import { PointDraft } from './point-draft.ts'
import { MANIFEST_FILE, pointName } from './point-names.ts'
import type { BackupProvider, BackupWriter, DiskPlan, DiskProgress, DiskWritten, PointFacts, PointRequest } from './provider.ts'
import { gatherSegments } from './segment-list.ts'
import { plannedPieces, wholeDisk } from './touched-blocks.ts'
import { CATALOG_FILE, exportImage, exportNames, vcbCatalog, vcbDirectory } from './vcb-layout.ts'

export const FULL_ONLY = 'a directory export is always a full image'

export type DirProviderOptions = Abortable & {
  readonly init?: boolean | undefined
  readonly exportFormat?: ExportFormat | undefined
  /** Of exports for the VCB commands. */
  readonly exportName?: ((config: VmConfig) => string) | undefined
  readonly log: Log
}

/** A directory with one directory of VMX and VMDK files per restore point. */
export const openDirProvider = (path: string, options: DirProviderOptions): Promise<BackupProvider> => open(path, 'dir', options)

/** A directory with one directory of VCB's full VM export per VM: a restore point too, so it is proven, restored and removed as one. */
export const openVcbExports = (path: string, options: DirProviderOptions): Promise<BackupProvider> => open(path, 'vcb', options)

async function open(path: string, layout: 'dir' | 'vcb', options: DirProviderOptions): Promise<BackupProvider> {
  const directory = resolve(path)
  try {
    if (!(await stat(directory)).isDirectory()) throw new AgentError('CONFIG', `${directory} is not a directory.`, { subject: directory })
  } catch (error) {
    if (!isMissing(error)) throw fromErrno(error, directory) ?? error
    if (options.init !== true) {
      throw new AgentError('NOT_FOUND', `There is no directory ${directory} for exports.`, {
        subject: directory,
        next: 'Make it with --init, or name another.',
      })
    }
    await ensureDirectory(directory)
  }
  return new DirProvider(directory, layout, options)
}

class DirProvider implements BackupProvider {
  readonly name = 'dir'
  readonly url: string
  readonly incremental: Verdict = { ok: false, reason: FULL_ONLY }
  readonly digests: Verdict = { ok: false, reason: FULL_ONLY }
  readonly points: DirPoints
  readonly exports: boolean
  readonly #directory: string
  readonly #layout: 'dir' | 'vcb'
  readonly #exportName: (config: VmConfig) => string
  readonly #format: ExportFormat

  constructor(directory: string, layout: 'dir' | 'vcb', options: DirProviderOptions) {
    this.#directory = directory
    this.#layout = layout
    this.exports = layout === 'vcb'
    this.#exportName = options.exportName ?? vcbDirectory
    this.url = `${layout}:${directory}`
    this.#format = options.exportFormat ?? 'flat'
    this.points = new DirPoints(directory, this.url, options.log)
  }

  async begin(request: PointRequest): Promise<BackupWriter> {
    const vcb = this.#layout === 'vcb'
    const draft = new PointDraft(request, vcb ? exportNames(request.config) : undefined)
    const unique = pointName(draft.names.directory, request.time, request.run)
    const id = (vcb ? this.#exportName(request.config) : unique) as PointId
    const final = join(this.#directory, id)
    const partial = join(this.#directory, `.${unique}.partial`)
    if (vcb) await refuseTaken(final)
    try {
      await makeDirectory(partial)
    } catch (error) {
      throw fromErrno(error, partial) ?? error
    }
    return new DirWriter(id, draft, { final, partial }, this.#format, vcb ? vcbCatalog : undefined)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Holds nothing open.
  }
}

/** VCB made the directory of an export itself; an empty one is taken all the same. */
async function refuseTaken(path: string): Promise<void> {
  try {
    if ((await readdir(path)).length === 0) return
  } catch (error) {
    if (isMissing(error)) return
    throw fromErrno(error, path) ?? error
  }
  throw new AgentError('CONFLICT', `The directory ${path} is not empty.`, {
    subject: path,
    retry: 'never',
    next: 'Name another directory, or remove the export that is there with "vcbMounter -U -r DIR".',
  })
}

class DirWriter implements BackupWriter {
  readonly #id: PointId
  readonly #draft: PointDraft
  readonly #paths: { readonly final: string; readonly partial: string }
  readonly #format: ExportFormat
  readonly #catalog: ((manifest: StoredManifest) => string) | undefined
  readonly #sums = new Map<string, string>()
  #committed = false

  constructor(
    id: PointId,
    draft: PointDraft,
    paths: { readonly final: string; readonly partial: string },
    format: ExportFormat,
    catalog: ((manifest: StoredManifest) => string) | undefined,
  ) {
    this.#catalog = catalog
    this.#id = id
    this.#draft = draft
    this.#paths = paths
    this.#format = format
  }

  async putFile(name: string, body: Uint8Array): Promise<void> {
    this.#draft.addFile(name, body)
    await this.#save(name, body)
  }

  async putDisk(
    disk: DiskRef,
    source: BlockSource,
    plan: DiskPlan,
    options: Abortable & { readonly onProgress?: ((progress: DiskProgress) => void) | undefined } = {},
  ): Promise<DiskWritten> {
    const format = this.#format
    const stem = this.#draft.addDisk(disk, source, { format })
    const made: string[] = []
    try {
      let changedBytes = 0
      const ranges = plan.mode === 'incremental' ? wholeDisk(source.size) : plan.ranges
      const data = async function* (): AsyncGenerator<Range> {
        for await (const piece of plannedPieces(ranges, source, options)) {
          changedBytes += piece.length
          if (piece.kind === 'data') yield piece
        }
      }
      const planned = new PlannedSource(source, await gatherSegments(data()))
      const exported = await exportImage(
        this.#draft.request,
        disk,
        planned,
        { directory: this.#paths.partial, stem, format },
        {
          signal: options.signal,
          onProgress: ({ doneBytes, writtenBytes }) => options.onProgress?.(planned.progress(doneBytes, writtenBytes, changedBytes)),
        },
      )
      made.push(...exported.files.map(({ name }) => name), `${stem}.sha256blocks`)
      await this.#digest(stem, options)
      const storedBytes = await this.#storedBytes(exported.files.map(({ name }) => name))
      options.onProgress?.({ doneBytes: changedBytes, readBytes: planned.readBytes, storedBytes })
      return { changedBytes, readBytes: planned.readBytes, storedBytes }
    } catch (error) {
      this.#draft.dropDisk(disk)
      for (const name of made) await removeFile(join(this.#paths.partial, name))
      throw error
    }
  }

  async commit(reported: PointFacts): Promise<{ readonly id: PointId; readonly manifest: Manifest }> {
    const manifest = this.#draft.manifest(inFull(reported, FULL_ONLY))
    if (this.#catalog !== undefined) await writeFileAtomic(join(this.#paths.partial, CATALOG_FILE), this.#catalog(manifest))
    await this.#save(MANIFEST_FILE, encodeManifest(manifest))
    const sums = [...this.#sums].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, sha256]) => `${sha256}  ${name}\n`)
    await writeFileAtomic(join(this.#paths.partial, SUMS_FILE), sums.join(''))
    try {
      await renameFile(this.#paths.partial, this.#paths.final)
      this.#committed = true
      await syncDirectory(join(this.#paths.final, '..'))
    } catch (error) {
      throw fromErrno(error, this.#paths.final) ?? error
    }
    return { id: this.#id, manifest }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#committed) await removeTree(this.#paths.partial)
  }

  async #save(name: string, body: Uint8Array): Promise<void> {
    await writeFileAtomic(join(this.#paths.partial, name), body)
    this.#sums.set(name, hash('sha256', body))
  }

  /** Reads the exported disk back, which proves that it can be, and keeps the digests of its blocks. */
  async #digest(stem: string, options: Abortable): Promise<void> {
    const name = `${stem}.sha256blocks`
    const path = join(this.#paths.partial, name)
    {
      await using image = await openChain(join(this.#paths.partial, `${stem}.vmdk`), localDiskFiles(), options)
      await writeBlockDigests(image, path, options)
    }
    await using digests = await openLocalFile(path)
    this.#sums.set(name, await digestOf(digests))
  }

  /** Bytes the files take on disk, holes not counted. */
  async #storedBytes(names: readonly string[]): Promise<number> {
    let sum = 0
    for (const name of names) sum += (await stat(join(this.#paths.partial, name))).blocks * 512
    return sum
  }
}
