import { AgentError, type BlockSource, type DiskImage, type DiskRef } from '../core/index.ts'
import { buildManifest, MAX_FILE_BYTES, type StoredManifest } from './manifest.ts'
import { PointNames } from './point-names.ts'
import type { PointFacts, PointRequest } from './provider.ts'

/** What a point being written holds so far, and the rules every destination has for it. */
export class PointDraft {
  readonly request: PointRequest
  readonly names: PointNames
  readonly #files: { readonly name: string; readonly size: number }[] = []
  readonly #images = new Map<number, DiskImage>()

  constructor(request: PointRequest, names = new PointNames(request.config)) {
    this.request = request
    this.names = names
  }

  /** USAGE for a name that is unsafe or taken, and for a file too big to be a small one. */
  addFile(name: string, body: Uint8Array): void {
    this.names.checkFile(name)
    if (this.#files.some((file) => file.name.toLowerCase() === name.toLowerCase())) {
      throw new AgentError('USAGE', `The file ${name} was put twice.`, { subject: name })
    }
    if (body.length > MAX_FILE_BYTES) {
      throw new AgentError('USAGE', `The file ${name} has ${body.length} bytes; a small file has at most ${MAX_FILE_BYTES}.`, {
        subject: name,
      })
    }
    this.#files.push({ name, size: body.length })
  }

  /** Takes a disk up under its name, which is returned. INTEGRITY when source and configuration disagree, USAGE when it is there already. */
  addDisk(disk: DiskRef, source: BlockSource, look: Pick<DiskImage, 'blockSize' | 'extentBytes' | 'format'> = {}): string {
    const stem = this.names.disk(disk)
    if (this.#images.has(disk.key)) throw new AgentError('USAGE', `The disk ${disk.label} was put twice.`, { subject: disk.label })
    if (source.size !== disk.capacityBytes) {
      throw new AgentError(
        'INTEGRITY',
        `The disk ${disk.label} reads as ${source.size} bytes; its configuration says ${disk.capacityBytes}.`,
        {
          subject: disk.label,
        },
      )
    }
    this.#images.set(disk.key, { key: disk.key, descriptor: `${stem}.vmdk`, capacityBytes: source.size, ...look })
    return stem
  }

  /** After a failed attempt: another one, in full or over another transport, may follow in the same point. */
  dropDisk(disk: DiskRef): void {
    this.#images.delete(disk.key)
  }

  /** INTERNAL when the facts name other disks than were put. */
  manifest(facts: PointFacts): StoredManifest {
    return buildManifest(this.request, facts, { images: [...this.#images.values()], files: this.#files })
  }
}
