import { type Abortable, AgentError, anySignal, type BlockSource, type DiskRef, type Manifest, MIB, type PointId } from '../core/index.ts'
import { BlobIds, type Repository, type RepositoryWriter, type TreeNode } from '../restic/index.ts'
import { diskLook, flatDescriptor } from './disk-descriptor.ts'
import { BLOCK_SIZES, EXTENT_FILE, extentDirectory, type ImageLayout, layoutFor, layoutOf, type LayoutSizes } from './image-layout.ts'
import { encodeManifest } from './manifest.ts'
import { PointDraft } from './point-draft.ts'
import { MANIFEST_FILE } from './point-names.ts'
import { imageDigests } from './parent-digests.ts'
import type { BackupWriter, DiskPlan, DiskProgress, DiskWritten, ParentDigests, PointFacts, PointRequest } from './provider.ts'
import { ResticImageWriter } from './restic-image-writer.ts'
import { openParentImage, type ParentImage } from './restic-parent-image.ts'
import { asTag, OUR_TAG, type ResticReader } from './restic-points.ts'

export type ResticWriterOptions = {
  readonly repository: Repository
  readonly writer: RepositoryWriter
  readonly request: PointRequest
  readonly parent: ResticReader | undefined
  readonly sizes: LayoutSizes
  readonly username: string
}

/** One restore point on its way into a restic repository. The snapshot is written last; until then nothing is listed. */
export class ResticWriter implements BackupWriter {
  readonly #options: ResticWriterOptions
  readonly #draft: PointDraft
  readonly #nodes: TreeNode[] = []
  #busy = 0

  constructor(options: ResticWriterOptions) {
    this.#options = options
    this.#draft = new PointDraft(options.request)
  }

  async putFile(name: string, body: Uint8Array): Promise<void> {
    this.#draft.addFile(name, body)
    await this.#working(() => this.#saveFile(name, body))
  }

  async putDisk(
    disk: DiskRef,
    source: BlockSource,
    plan: DiskPlan,
    options: Abortable & { readonly onProgress?: ((progress: DiskProgress) => void) | undefined } = {},
  ): Promise<DiskWritten> {
    const layout = this.#layout(disk, source.size, plan.mode === 'incremental')
    const { extentBytes, blockBytes } = layout
    const stem = this.#draft.addDisk(disk, source, { blockSize: blockBytes, extentBytes })
    const descriptor = `${stem}.vmdk`
    try {
      return await this.#working(async () => {
        const signal = anySignal(options.signal, this.#options.writer.signal)
        const name = extentBytes === undefined ? `${stem}-flat.vmdk` : `${stem}-extents`
        const parent = plan.mode === 'incremental' ? await this.#parentImage(disk, name, layout, { signal }) : undefined
        const job = { source, plan, layout, parent, name, node: (each: string) => this.#node(each) }
        const image = new ResticImageWriter(this.#options.writer, this.#options.repository, job, { ...options, signal })
        const { node, ...written } = await image.write()
        this.#nodes.push(node)
        const look = diskLook(this.#options.request.config, disk, this.#options.request.time)
        await this.#saveFile(descriptor, flatDescriptor(stem, look, extentFiles(stem, layout)))
        return written
      })
    } catch (error) {
      this.#draft.dropDisk(disk)
      throw error
    }
  }

  async parentDigests(disk: DiskRef, options?: Abortable): Promise<ParentDigests> {
    const layout = this.#layout(disk, disk.capacityBytes, true)
    const image = await this.#parentImage(disk, '', layout, { signal: options?.signal })
    return imageDigests(image, layout)
  }

  async commit(facts: PointFacts, options?: Abortable): Promise<{ readonly id: PointId; readonly manifest: Manifest }> {
    if (this.#busy > 0) throw new AgentError('INTERNAL', 'A restore point was to be committed while its disks were still being written.')
    const { request, writer, parent, username } = this.#options
    const manifest = this.#draft.manifest(facts)
    await this.#saveFile(MANIFEST_FILE, encodeManifest(manifest))
    const subtree = await writer.saveTree(this.#nodes)
    const tree = await writer.saveTree([{ ...this.#node(this.#draft.names.directory), type: 'dir', mode: 0o700, subtree }])
    const { vm } = request.config
    const id = await writer.commit(
      {
        time: request.time,
        tree,
        paths: [`/${this.#draft.names.directory}`],
        hostname: vm.name.toWellFormed(),
        username,
        parent: facts.mode === 'incremental' ? parent?.id : undefined,
        tags: [OUR_TAG, `vm:${asTag(vm.instanceUuid)}`, `vcenter:${asTag(vm.vcenterUuid)}`, `run:${request.run}`, `mode:${facts.mode}`],
        programVersion: 'vcb-proxy',
      },
      options,
    )
    return { id: id as PointId, manifest }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.writer[Symbol.asyncDispose]()
  }

  /** An image that reuses blocks of the parent keeps their size, where it is one that a writer may choose. */
  #layout(disk: DiskRef, size: number, reuse: boolean): ImageLayout {
    const fresh = layoutFor(size, this.#options.sizes)
    const before = reuse ? this.#options.parent?.manifest.images.find((image) => image.key === disk.key)?.blockSize : undefined
    return before !== undefined && BLOCK_SIZES.includes(before) ? layoutOf(size, fresh.extentBytes, before) : fresh
  }

  async #parentImage(disk: DiskRef, name: string, layout: ImageLayout, options: Abortable): Promise<ParentImage> {
    const { parent, repository } = this.#options
    if (parent === undefined) {
      throw new AgentError('INTEGRITY', `An incremental of disk ${disk.label} has no parent point to build on.`, {
        subject: disk.label,
        next: 'Take a full backup of this disk.',
      })
    }
    const before = parent.manifest.images.find((image) => image.key === disk.key)
    const same =
      before?.capacityBytes === layout.size && before.extentBytes === layout.extentBytes && before.blockSize === layout.blockBytes
    if (!same) {
      const what = before === undefined ? 'does not hold this disk' : 'holds this disk in another size or in other blocks'
      throw new AgentError('INTEGRITY', `The parent point ${parent.id} ${what}.`, {
        subject: disk.label,
        next: 'Take a full backup of this disk.',
      })
    }
    return openParentImage(repository, parent.image(disk.key).node, name, layout, options)
  }

  async #saveFile(name: string, body: Uint8Array): Promise<void> {
    const content = new BlobIds(Math.ceil(body.length / MIB))
    for (let index = 0; index < content.length; index++) {
      content.set(index, (await this.#options.writer.saveBlob(body.subarray(index * MIB, (index + 1) * MIB))).id)
    }
    this.#nodes.push({ ...this.#node(name), type: 'file', mode: 0o600, size: body.length, content })
  }

  #node(name: string): Pick<TreeNode, 'name' | 'mtime' | 'mode'> {
    return { name, mtime: this.#options.request.time, mode: 0o600 }
  }

  async #working<T>(work: () => Promise<T>): Promise<T> {
    this.#busy++
    try {
      return await work()
    } finally {
      this.#busy--
    }
  }
}

const extentFiles = (stem: string, layout: ImageLayout): { readonly path: string; readonly size: number }[] =>
  layout.extentBytes === undefined
    ? [{ path: `${stem}-flat.vmdk`, size: layout.size }]
    : Array.from({ length: layout.count }, (_, index) => ({
        path: `${stem}-extents/${extentDirectory(index)}/${EXTENT_FILE}`,
        size: layout.sizeOf(index),
      }))
