import { type Abortable, AgentError, coalesceExtents, type Extent, type Range, throwIfAborted } from '../core/index.ts'
import { parentOf } from './descriptor.ts'
import type { DiskFiles } from './disk-files.ts'
import { type DiskLayer, type DiskLink, openLink } from './open-disk.ts'
import { overlay } from './overlay.ts'
import type { PlacedSource } from './place.ts'

/** VMware's own limit on the links of a disk. */
export const MAX_LINKS = 32

/** A complete disk: every link below the named one, merged. Nothing is absent. */
export interface DiskChain extends PlacedSource {
  /** Top first, base last. */
  readonly links: readonly DiskLink[]
}

/**
 * Opens a disk with all its parents. Each link must name its parent and carry that parent's CID; the parent may be smaller (the disk
 * was grown later), never larger. The caller disposes the chain, which closes every link.
 * Errors: those of `openDisk`; INTEGRITY for a CID mismatch, a cycle, a missing parent hint, more than 32 links.
 */
export async function openChain(reference: string, files: DiskFiles, options?: Abortable): Promise<DiskChain> {
  const layers: DiskLayer[] = []
  try {
    let location: string | undefined = await files.resolve(reference, undefined)
    while (location !== undefined) {
      throwIfAborted(options)
      if (layers.some((layer) => layer.link.location === location)) {
        throw broken(location, `The chain of ${first(layers)} leads back to ${location}.`)
      }
      if (layers.length === MAX_LINKS) throw broken(location, `The chain of ${first(layers)} has more than ${MAX_LINKS} links.`)
      const layer: DiskLayer = await openParent(location, layers, files, options)
      layers.push(layer)
      checkStep(layers.at(-2)?.link, layer.link)
      location = await parentLocation(layer.link, files)
    }
  } catch (error) {
    await Promise.allSettled(layers.map((layer) => layer[Symbol.asyncDispose]()))
    throw error
  }
  const links = Object.freeze(layers.map((layer) => layer.link))
  return new Chain(layers.reduceRight<PlacedSource | undefined>(stack, undefined), links)
}

const stack = (below: PlacedSource | undefined, layer: PlacedSource): PlacedSource => (below === undefined ? layer : overlay(layer, below))

const first = (layers: readonly DiskLayer[]): string => layers[0]?.link.location ?? 'the disk'

async function openParent(location: string, above: readonly DiskLayer[], files: DiskFiles, options?: Abortable): Promise<DiskLayer> {
  try {
    return await openLink(location, files, options)
  } catch (error) {
    const child = above.at(-1)?.link.location
    if (child === undefined || !(error instanceof AgentError) || error.code !== 'NOT_FOUND') throw error
    throw new AgentError('INTEGRITY', `${child} needs its parent ${location}, which does not exist.`, { subject: child, cause: error })
  }
}

async function parentLocation(link: DiskLink, files: DiskFiles): Promise<string | undefined> {
  const { descriptor, location } = link
  const parent = parentOf(descriptor)
  if (parent === undefined) {
    if (descriptor.parentFileNameHint === undefined) return undefined
    throw broken(location, `${location} names a parent (${descriptor.parentFileNameHint}) but says with its parentCID that it has none.`)
  }
  if (parent.reference === undefined) throw broken(location, `${location} has a parent (CID ${parent.cid}) but does not name it.`)
  try {
    return await files.resolve(parent.reference, location)
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'NOT_FOUND') throw error
    throw new AgentError('INTEGRITY', `${location} needs its parent ${parent.reference}, which does not exist.`, {
      subject: location,
      cause: error,
    })
  }
}

function checkStep(child: DiskLink | undefined, parent: DiskLink): void {
  if (child === undefined) return
  const wanted = parentOf(child.descriptor)?.cid
  if (wanted !== parent.descriptor.cid) {
    throw new AgentError(
      'INTEGRITY',
      `${child.location} was made on a parent with CID ${wanted}, but ${parent.location} has CID ${parent.descriptor.cid}.`,
      { subject: child.location, next: 'The parent was changed after the snapshot was taken; do not use this chain.' },
    )
  }
  if (parent.capacityBytes > child.capacityBytes) {
    throw broken(child.location, `${child.location} has ${child.capacityBytes} bytes, fewer than its parent (${parent.capacityBytes}).`)
  }
}

function broken(subject: string, message: string): AgentError {
  return new AgentError('INTEGRITY', message, { subject, next: 'Check the snapshot chain of this VM on the host (consolidate it) first.' })
}

/** The base's absent bytes are zeros: there is nobody left to ask. */
class Chain implements DiskChain {
  readonly size: number
  readonly links: readonly DiskLink[]
  readonly places: PlacedSource['places']
  readonly #source: PlacedSource

  constructor(source: PlacedSource | undefined, links: readonly DiskLink[]) {
    if (source === undefined) throw new AgentError('INTERNAL', 'A chain needs at least one link.')
    this.size = source.size
    this.links = links
    this.places = source.places?.bind(source)
    this.#source = source
  }

  read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    return this.#source.read(offset, into, options)
  }

  extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    return coalesceExtents(this.#withoutAbsent(range, options))
  }

  async *#withoutAbsent(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    for await (const extent of this.#source.extents(range, options)) yield extent.kind === 'absent' ? { ...extent, kind: 'zero' } : extent
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]()
  }
}
