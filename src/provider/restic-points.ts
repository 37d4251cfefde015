import { type Abortable, AgentError, type BlockSource, isAgentError, type Log, type PointId, type PointSummary } from '../core/index.ts'
import type {
  BlobReader,
  Complete,
  Locking as ResticLocking,
  PruneReport,
  RenewReport,
  Repository,
  StoredSnapshot,
  TreeNode,
} from '../restic/index.ts'
import { ExtentsSource } from './extents-source.ts'
import { EXTENT_FILE, extentDirectory, type ImageLayout, layoutOf } from './image-layout.ts'
import { imageOf, MAX_FILE_BYTES, MAX_MANIFEST_BYTES, parseManifest, type StoredManifest, summarise } from './manifest.ts'
import { imageDigests } from './parent-digests.ts'
import { isSafeName, MANIFEST_FILE } from './point-names.ts'
import {
  type BackupReader,
  type Locking,
  noHold,
  type ParentDigests,
  type PointDeletion,
  type PointList,
  type PointsCheck,
  type PointsHold,
  type PointStore,
  type Problem,
  type PruneRequest,
  type RenewRequest,
} from './provider.ts'
import { contentKey, extentKey, openParentImage } from './restic-parent-image.ts'

/** Tag of every snapshot that is a restore point of ours; all others are ignored and never touched. */
export const OUR_TAG = 'vcb-proxy'
/** restic separates tags by commas on its command line. */
export const asTag = (value: string): string => value.replaceAll(/[,\s]/gu, '_')
/** Every tag a writer gives. */
const OUR_TAGS = /^(?:vcb-proxy$|(?:vm|vcenter|run|mode):)/u

/** Restore points among the snapshots of a restic repository. */
export class ResticPoints implements PointStore {
  readonly #repository: Repository
  readonly #url: string
  readonly #log: Log

  constructor(repository: Repository, url: string, log: Log) {
    this.#repository = repository
    this.#url = url
    this.#log = log
  }

  async *list(options: PointList = {}): AsyncGenerator<PointSummary> {
    const { newestOf } = options
    if (newestOf === undefined) {
      for await (const snapshot of this.#repository.snapshots.list(options)) {
        const summary = await this.#summary(snapshot, options)
        if (summary !== undefined) yield summary
      }
      return
    }
    const wanted: StoredSnapshot[] = []
    for await (const snapshot of this.#repository.snapshots.list(options)) if (mayBeOf(newestOf, snapshot)) wanted.push(snapshot)
    let found = 0
    for (const snapshot of wanted.sort((a, b) => Date.parse(b.time) - Date.parse(a.time))) {
      if (found >= newestOf.most) return
      const summary = await this.#summary(snapshot, options)
      if (summary?.instanceUuid !== newestOf.instanceUuid || summary.vcenterUuid !== newestOf.vcenterUuid) continue
      found++
      yield summary
    }
  }

  async open(id: string, options?: Abortable): Promise<ResticReader> {
    return openPoint(this.#repository, await this.#ours(id, options), options)
  }

  async hold(options?: Locking): Promise<PointsHold> {
    try {
      return await this.#repository.beginRead(resticLocking(this.#url, options))
    } catch (error) {
      // No access to make the lock file: what is on a read-only medium nobody removes either.
      if (!isAgentError(error, 'CONFIG')) throw error
      this.#log.info('reading without a lock', { repository: this.#url, reason: error.message })
      return noHold
    }
  }

  async *check(id: PointId | undefined, options: PointsCheck = {}): AsyncGenerator<Problem> {
    const snapshot = id === undefined ? undefined : await this.#ours(id, options)
    const { readData, slices, onSlice, structure, onSize } = options
    const wanted = { readData, slices, onSlice, structure, onSize, snapshot: snapshot?.id }
    for await (const { what, slice, snapshot: of } of this.#repository.check({ ...resticLocking(this.#url, options), ...wanted })) {
      yield { what, slice, point: of as PointId | undefined }
    }
    if (structure === false) return
    if (snapshot !== undefined) yield* this.#checkPoint(snapshot, options)
    else {
      for await (const each of this.#repository.snapshots.list(options)) if (isOurs(each)) yield* this.#checkPoint(each, options)
    }
  }

  async delete(id: PointId, options?: Locking): Promise<void> {
    const snapshot = await this.#ours(id, options)
    await this.#repository.snapshots.forget([snapshot.id], resticLocking(this.#url, options))
  }

  async beginDelete(options?: Locking): Promise<PointDeletion> {
    const removal = await this.#repository.snapshots.beginForget(resticLocking(this.#url, options))
    return {
      signal: removal.signal,
      // Looked at again: only what carries our tag is ever removed.
      delete: async (id, inner) => removal.remove((await this.#ours(id, inner)).id, inner),
      [Symbol.asyncDispose]: () => removal[Symbol.asyncDispose](),
    }
  }

  prune(request: PruneRequest, options?: Locking): Promise<PruneReport> {
    return this.#repository.prune({ ...request, ...resticLocking(this.#url, options) })
  }

  get renewLocks(): ((request: RenewRequest, options?: Locking) => Promise<RenewReport>) | undefined {
    const { renewLocks } = this.#repository
    if (renewLocks === undefined) return undefined
    // Snapshots of other programs are theirs to lock.
    return (request, options) => renewLocks({ ...request, ...resticLocking(this.#url, options), wants: isOurs })
  }

  lockedUntil(id: PointId, options?: Abortable): Promise<Date | undefined> {
    return this.#repository.snapshots.lockedUntil(id, options)
  }

  /** Undefined where it is none of ours, or damaged: that must not hide the good ones, and `check` reports it. */
  async #summary(snapshot: StoredSnapshot, options: Abortable): Promise<PointSummary | undefined> {
    if (!isOurs(snapshot)) return undefined
    try {
      const { manifest } = await openPoint(this.#repository, snapshot, options)
      const tags = snapshot.tags?.filter((tag) => !OUR_TAGS.test(tag))
      return { ...summarise(snapshot.id as PointId, this.#url, manifest), tags }
    } catch (error) {
      if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND', 'CONFIG')) throw error
      this.#log.warn('a restore point cannot be read and is not listed', { point: snapshot.id, reason: error.message })
      return undefined
    }
  }

  /** What restic's own structure cannot tell: that the manifest is there and everything it names is, in the right size. */
  async *#checkPoint(snapshot: StoredSnapshot, options: Abortable): AsyncGenerator<Problem> {
    const point = snapshot.id as PointId
    try {
      await using reader = await openPoint(this.#repository, snapshot, options)
      for (const what of await reader.problems(options)) yield { point, what }
    } catch (error) {
      if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND', 'CONFIG')) throw error
      yield { point, what: error.message }
    }
  }

  /** NOT_FOUND unless the point is there now. */
  async confirm(id: PointId, options?: Abortable): Promise<void> {
    await this.#ours(id, options)
  }

  async #ours(id: string, options?: Abortable): Promise<StoredSnapshot> {
    const snapshot = await this.#repository.snapshots.get(id, options)
    if (isOurs(snapshot)) return snapshot
    throw new AgentError('NOT_FOUND', `The snapshot ${id} in ${this.#url} is not a restore point of vcb.`, { subject: id })
  }
}

/** A caller's wishes about locks in the terms of the repository, which knows itself by its path. */
export const resticLocking = (url: string, options?: Locking): ResticLocking => {
  const { recordLocks } = options ?? {}
  return { signal: options?.signal, recordLocks: recordLocks && ((names) => recordLocks({ url, names })) }
}

const isOurs = (snapshot: StoredSnapshot): boolean => snapshot.tags?.includes(OUR_TAG) === true

/** By the tags its writer gave it; where somebody took those away, only its manifest can tell. */
function mayBeOf(vm: { readonly instanceUuid: string; readonly vcenterUuid: string }, { tags = [] }: StoredSnapshot): boolean {
  const fits = (kind: 'vm' | 'vcenter', value: string): boolean =>
    tags.includes(`${kind}:${asTag(value)}`) || !tags.some((tag) => tag.startsWith(`${kind}:`))
  return fits('vm', vm.instanceUuid) && fits('vcenter', vm.vcenterUuid)
}

/** Opens a snapshot of ours. INTEGRITY when its directory or manifest is not as it was written. */
export async function openPoint(
  { blobs, complete }: Pick<Repository, 'blobs' | 'complete'>,
  snapshot: StoredSnapshot,
  options?: Abortable,
): Promise<ResticReader> {
  const directory = snapshot.paths[0]?.slice(1)
  if (directory === undefined || !isSafeName(directory)) {
    throw new AgentError('INTEGRITY', `The restore point ${snapshot.id} does not name its directory.`, { subject: snapshot.id })
  }
  const node = await blobs.find(snapshot.tree, [directory], options)
  if (node?.subtree === undefined) {
    throw new AgentError('INTEGRITY', `The restore point ${snapshot.id} has no directory ${directory}.`, { subject: snapshot.id })
  }
  const nodes = new Map((await blobs.tree(node.subtree, options)).map((each) => [each.name, each]))
  const manifestNode = nodes.get(MANIFEST_FILE)
  if (manifestNode === undefined)
    throw new AgentError('INTEGRITY', `The restore point ${snapshot.id} has no manifest.`, { subject: snapshot.id })
  const manifest = parseManifest(await readNode(blobs, manifestNode, MAX_MANIFEST_BYTES, options), `restore point ${snapshot.id}`)
  return new ResticReader({ blobs, complete }, snapshot.id as PointId, manifest, nodes)
}

async function readNode(blobs: BlobReader, node: TreeNode, most: number, options?: Abortable): Promise<Uint8Array> {
  const size = node.size ?? 0
  if (node.type !== 'file' || size > most) {
    throw new AgentError('INTEGRITY', `${node.name} is not a file of at most ${most} bytes.`, { subject: node.name })
  }
  const parts: Uint8Array[] = []
  let total = 0
  for (const id of node.content ?? []) {
    const part = await blobs.read(id, options)
    total += part.length
    if (total > size) break
    parts.push(part)
  }
  if (total !== size)
    throw new AgentError('INTEGRITY', `${node.name} has other than the ${size} bytes its entry says.`, { subject: node.name })
  return Buffer.concat(parts)
}

export class ResticReader implements BackupReader {
  readonly id: PointId
  readonly manifest: StoredManifest
  readonly #blobs: BlobReader
  readonly #complete: Complete
  readonly #nodes: ReadonlyMap<string, TreeNode>

  constructor(
    { blobs, complete }: Pick<Repository, 'blobs' | 'complete'>,
    id: PointId,
    manifest: StoredManifest,
    nodes: ReadonlyMap<string, TreeNode>,
  ) {
    this.#blobs = blobs
    this.#complete = complete
    this.id = id
    this.manifest = manifest
    this.#nodes = nodes
  }

  async file(name: string, options?: Abortable): Promise<Uint8Array> {
    const node = this.#nodes.get(name)
    if (node === undefined || node.type !== 'file' || !this.manifest.files.some((file) => file.name === name)) {
      throw new AgentError('NOT_FOUND', `The restore point ${this.id} has no file ${name}.`, { subject: name })
    }
    return readNode(this.#blobs, node, MAX_FILE_BYTES, options)
  }

  disk(key: number, options?: Abortable): Promise<BlockSource> {
    return this.#disk(key, this.#complete, options)
  }

  /** Blocks of what is `complete` are not looked up. */
  async #disk(key: number, complete: Pick<Complete, 'has'>, options?: Abortable): Promise<BlockSource> {
    const { node, layout } = this.image(key)
    if (node === undefined) throw this.#damaged(`lacks the image of disk ${key}`)
    if (layout.extentBytes === undefined) {
      const known = node.content !== undefined && complete.has(contentKey(node.content, layout.size, layout))
      return this.#openExtent(node, layout.size, known ? layout.blockBytes : undefined, options)
    }
    if (node.subtree === undefined) throw this.#damaged(`lacks the extents of disk ${key}`)
    const extents = new Map((await this.#blobs.tree(node.subtree, options)).map((each) => [each.name, each.subtree]))
    const missing = Array.from({ length: layout.count }, (_, index) => index).find(
      (index) => extents.get(extentDirectory(index)) === undefined,
    )
    if (missing !== undefined) throw this.#damaged(`lacks extent ${missing + 1} of disk ${key}`)
    return new ExtentsSource(layout, async (index, inner) => {
      const subtree = extents.get(extentDirectory(index)) ?? ''
      const file = (await this.#blobs.tree(subtree, inner)).find(({ name }) => name === EXTENT_FILE)
      if (file === undefined) throw this.#damaged(`lacks the file of extent ${index + 1} of disk ${key}`)
      const size = layout.sizeOf(index)
      const known = complete.has(extentKey(subtree, size, layout))
      return this.#openExtent(file, size, known ? layout.blockBytes : undefined, inner)
    })
  }

  async digests(key: number, options: Abortable = {}): Promise<ParentDigests> {
    const { node, layout } = this.image(key)
    return imageDigests(
      await openParentImage({ blobs: this.#blobs, complete: new Set<string>() }, node, node?.name ?? '', layout, options),
      layout,
    )
  }

  /** Where a disk's image is and how it is cut. NOT_FOUND. */
  image(key: number): { readonly node: TreeNode | undefined; readonly layout: ImageLayout } {
    const image = imageOf(this.manifest, key, this.id)
    const stem = image.descriptor.replace(/\.vmdk$/u, '')
    const node = this.#nodes.get(`${stem}${image.extentBytes === undefined ? '-flat.vmdk' : '-extents'}`)
    return { node, layout: layoutOf(image.capacityBytes, image.extentBytes, image.blockSize) }
  }

  /** Everything the manifest names that is missing or has another size. */
  async problems(options?: Abortable): Promise<readonly string[]> {
    const found: string[] = []
    for (const { name, size } of this.manifest.files) {
      if (this.#nodes.get(name)?.size !== size && !(size === 0 && this.#nodes.has(name)))
        found.push(`The file ${name} is missing or not ${size} bytes.`)
    }
    for (const { key, descriptor, capacityBytes } of this.manifest.images) {
      if (!this.#nodes.has(descriptor)) found.push(`The descriptor ${descriptor} is missing.`)
      try {
        await using disk = await this.#disk(key, new Set(), options)
        // Opens every extent, each of which compares its size and looks every blob up in the index.
        for await (const extent of disk.extents({ offset: 0, length: capacityBytes }, options)) void extent
      } catch (error) {
        if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND')) throw error
        found.push(error.message)
      }
    }
    return found
  }

  async #openExtent(node: TreeNode, size: number, blockBytes: number | undefined, options?: Abortable): Promise<BlockSource> {
    const source = await this.#blobs.openFile(node, { signal: options?.signal, blockBytes })
    if (source.size === size) return source
    await source[Symbol.asyncDispose]()
    throw this.#damaged(`has ${source.size} bytes in ${node.name} instead of ${size}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Holds nothing open; the repository belongs to the provider.
  }

  #damaged(what: string): AgentError {
    return new AgentError('INTEGRITY', `The restore point ${this.id} ${what}.`, { subject: this.id })
  }
}
