import { join } from 'node:path'
import { AgentError, type BlockSource, type ClaimId } from '../../core/index.ts'
import { type CowDisk, createCowDisk } from '../../disk/index.ts'
import type { FileActivity } from '../../fuse/index.ts'
import type { Claims } from '../../journal/index.ts'
import type { FileSystemType } from '../volumes/volume.ts'
import { volumeAbility } from './abilities.ts'
import { attachLoop, loopPath } from './loop-device.ts'
import { type MountKind, mountKind, subvolumeOf } from './mount-kind.ts'
import { makeMountPoint } from './mount-point.ts'
import { mountAgainBy, mountByKernel, mountByProgram } from './mount-programs.ts'
import { mountTable } from './mount-table.ts'
import { mountFiles, type PresentDeps, type ServedMount } from './served-mount.ts'

/** A file system to mount. */
export type VolumeToPresent = {
  /** A file name, unique. */
  readonly name: string
  readonly type: FileSystemType
  /** The volume's bytes, of whole sectors. It stays the caller's and is never written to. */
  readonly source: BlockSource
  readonly modified: Date
}

export type VolumePlaces = {
  /** A directory of the caller's for the image files, hidden from users; made when it is missing. */
  readonly images: string
  /** Where the private layers lie while the volumes are shown: scratch files without a name. */
  readonly scratch: string
  /** Most bytes that a file system may change in its private layer, when its journal is replayed. Default 1 GiB. */
  readonly overlayLimit?: number | undefined
}

/** Volumes ready to be mounted. Disposal undoes all of it in reverse order; what cannot be undone stays in the journal. */
export interface PresentedVolumes extends AsyncDisposable {
  /** Of the image files. A program that reads a file shows here as the kernel reading its volume. */
  readonly activity: readonly FileActivity[]
  readonly ended: Promise<void>
  /**
   * Mounts a volume read-only on `directory` (absolute; made when it is missing, in a file system of the guest it must be there). A dirty journal is replayed into the private layer.
   * Errors: CONFIG (this proxy cannot: see `mountAbilities`), INTEGRITY (the file system is damaged), CAPACITY (the private layer), those of the source.
   */
  mount(name: string, directory: string): Promise<void>
  /** Shows a mounted volume in one more place, or a subvolume of a btrfs, by its path. */
  mountAgain(name: string, directory: string, subvolume?: string): Promise<void>
}

const OVERLAY_LIMIT = 1024 ** 3

/** Makes the volumes ready: a private layer each, and their image files, which this process serves (see `presentImages`). */
export async function presentVolumes(
  volumes: readonly VolumeToPresent[],
  places: VolumePlaces,
  deps: PresentDeps,
  claims: Claims,
  dependsOn: readonly ClaimId[] = [],
): Promise<PresentedVolumes> {
  await using layers = new AsyncDisposableStack()
  const limit = places.overlayLimit ?? OVERLAY_LIMIT
  const files: ReadyVolume[] = []
  for (const volume of volumes) {
    const layer = layers.use(await createCowDisk(volume.source, { directory: places.scratch, limit }))
    files.push({ volume, layer })
  }
  await makeMountPoint(places.images, deps)
  const served = await mountFiles(
    (claim) =>
      files.map(({ volume, layer }) => ({ name: imageName(volume, claim), source: layer, sink: layer, modified: volume.modified })),
    places.images,
    deps,
    claims,
    dependsOn,
  )
  return new Presented(files, places.images, served, layers.move(), deps, claims)
}

type ReadyVolume = { readonly volume: VolumeToPresent; readonly layer: CowDisk }
type MountedVolume = { readonly path: string; readonly claim: ClaimId }

/** Holds the claim id of the files, so that a loop device over it is known from all others by this name alone. */
const imageName = ({ name }: VolumeToPresent, claim: ClaimId): string => `${name}.${claim}`

class Presented implements PresentedVolumes {
  readonly ended: Promise<void>
  readonly #ready: readonly ReadyVolume[]
  readonly #images: string
  readonly #served: ServedMount
  readonly #layers: AsyncDisposableStack
  readonly #deps: PresentDeps
  readonly #claims: Claims
  readonly #mounted = new Map<string, MountedVolume>()
  /** Everything taken here, in order. */
  readonly #taken: ClaimId[] = []

  constructor(
    ready: readonly ReadyVolume[],
    images: string,
    served: ServedMount,
    layers: AsyncDisposableStack,
    deps: PresentDeps,
    claims: Claims,
  ) {
    this.ended = served.server.ended
    this.#ready = ready
    this.#images = images
    this.#served = served
    this.#layers = layers
    this.#deps = deps
    this.#claims = claims
  }

  get activity(): readonly FileActivity[] {
    return this.#served.server.activity
  }

  async mount(name: string, directory: string): Promise<void> {
    const ready = this.#ready.find(({ volume }) => volume.name === name)
    if (ready === undefined || this.#mounted.has(name)) {
      throw new AgentError('USAGE', `${name} is no volume that can be mounted now.`, { subject: name })
    }
    const { volume } = ready
    const ability = await volumeAbility(volume.type, this.#deps)
    if (!ability.verdict.ok) {
      throw new AgentError('CONFIG', `A file system of type ${volume.type} cannot be mounted here: ${ability.verdict.reason}.`, {
        subject: name,
        next: ability.next,
      })
    }
    await makeMountPoint(directory, this.#deps)
    try {
      const claim = await this.#take(mountKind(volume.type), join(this.#images, imageName(volume, this.#served.claim.id)), directory)
      this.#mounted.set(name, { path: directory, claim })
    } catch (error) {
      // Why the kernel could not: it says little more than "input/output error".
      const seen = this.activity.find((file) => file.name === imageName(volume, this.#served.claim.id))
      throw seen?.writeError ?? seen?.readError ?? error
    }
  }

  async mountAgain(name: string, directory: string, subvolume?: string): Promise<void> {
    const mounted = this.#mounted.get(name)
    if (mounted === undefined) throw new AgentError('USAGE', `${name} is no mounted volume.`, { subject: name })
    const source = (await mountTable()).findLast((mount) => mount.mountPoint === mounted.path)?.source
    // What is under a mount that somebody has undone would look like an empty guest.
    if (source === undefined) throw new AgentError('UNAVAILABLE', `${mounted.path} is not mounted any more.`, { subject: name })
    await makeMountPoint(directory, this.#deps)
    const again = await this.#claims.take('volumeMount', { path: directory, source }, [mounted.claim], async () => {
      if (subvolume === undefined) await mountAgainBy({ source: mounted.path, directory }, this.#deps)
      else await mountByKernel(subvolumeOf(subvolume), { source, directory }, this.#deps)
      return { path: directory }
    })
    this.#taken.push(again.id)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = []
    const attempt = async (work: () => Promise<void>): Promise<void> => {
      try {
        await work()
      } catch (error) {
        failures.push(error)
      }
    }
    for (const claim of this.#taken.toReversed()) await attempt(() => this.#claims.release(claim))
    await attempt(async () => this.#served[Symbol.asyncDispose]())
    await attempt(() => this.#layers.disposeAsync())
    // What a claim could not be released for stays in the journal with its reason; the first tells the caller.
    if (failures.length > 0) throw failures[0]
  }

  /** The claims of one mount; the last one's id. */
  async #take(kind: MountKind, image: string, directory: string): Promise<ClaimId> {
    const below = this.#served.claim.id
    if (kind.by === 'program') {
      const args = { path: directory, source: image, program: kind.program }
      const held = await this.#claims.take('volumeMount', args, [below], async () => {
        await mountByProgram(kind, { source: image, directory }, this.#deps)
        return { path: directory }
      })
      this.#taken.push(held.id)
      return held.id
    }
    const loop = await this.#claims.take('loopDevice', { file: image }, [below], () => attachLoop(image, this.#deps))
    this.#taken.push(loop.id)
    const source = loopPath(loop.ref.number)
    const held = await this.#claims.take('volumeMount', { path: directory, source }, [loop.id], async () => {
      await mountByKernel(kind, { source, directory }, this.#deps)
      return { path: directory }
    })
    this.#taken.push(held.id)
    return held.id
  }
}
