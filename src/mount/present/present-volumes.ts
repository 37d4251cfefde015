import { join } from 'node:path'
import { AgentError, type BlockSource, type ClaimId } from '../../core/index.ts'
import { type CowDisk, createCowDisk } from '../../disk/index.ts'
import { type FileActivity, serveFiles, serveTree } from '../../fuse/index.ts'
import type { Claims } from '../../journal/index.ts'
import type { FileSystemType } from '../volumes/volume.ts'
import { openFatTree } from '../fat/fat-tree.ts'
import { volumeAbility } from './abilities.ts'
import { attachLoop, loopPath } from './loop-device.ts'
import { type MountKind, mountKind, subvolumeOf } from './mount-kind.ts'
import { makeMountPoint } from './mount-point.ts'
import { mountAgainBy, mountByKernel, mountByProgram } from './mount-programs.ts'
import { isMountedIn, mountTable } from './mount-table.ts'
import { mountServed, type PresentDeps, type ServedMount, unmounted } from './served-mount.ts'

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
  /** A directory of the caller's for the image files, which looks empty; made when it is missing. */
  readonly images: string
  /** Where the private layers lie while the volumes are shown: scratch files without a name. */
  readonly scratch: string
  /** Most bytes that a file system may change in its private layer, when its journal is replayed. Default 1 GiB. */
  readonly overlayLimit?: number | undefined
}

/** Volumes ready to be mounted. Disposal undoes all of it in reverse order; what cannot be undone stays in the journal. */
export interface PresentedVolumes extends AsyncDisposable {
  /** Of each volume. Where the kernel mounts it, a program that reads a file shows here as the kernel reading its image file. */
  readonly activity: readonly FileActivity[]
  /** Why one of them cannot be read any more, though nothing here has ended it: one sentence. Asked now and then; reads the mount table alone. */
  lost(): Promise<string | undefined>
  /**
   * Mounts a volume read-only on `directory` (absolute; made when it is missing, in a file system of the guest it must be there). A dirty journal is replayed into the private layer.
   * Errors: CONFIG (this proxy cannot: see `mountAbilities`), INTEGRITY (the file system is damaged), CAPACITY (the private layer), those of the source.
   */
  mount(name: string, directory: string): Promise<void>
  /** Shows a mounted volume in one more place, or a subvolume of a btrfs, by its path. */
  mountAgain(name: string, directory: string, subvolume?: string): Promise<void>
}

const OVERLAY_LIMIT = 1024 ** 3

/** Makes the volumes ready: a private layer for each that has a journal or may have, and their image files, which this process serves (see `presentImages`). */
export async function presentVolumes(
  volumes: readonly VolumeToPresent[],
  places: VolumePlaces,
  deps: PresentDeps,
  claims: Claims,
  dependsOn: readonly ClaimId[] = [],
): Promise<PresentedVolumes> {
  await using layers = new AsyncDisposableStack()
  const limit = places.overlayLimit ?? OVERLAY_LIMIT
  const files: { readonly volume: VolumeToPresent; readonly layer: CowDisk }[] = []
  for (const volume of volumes) {
    if (mountKind(volume.type).by === 'us') continue
    const layer = layers.use(await createCowDisk(volume.source, { directory: places.scratch, limit }))
    files.push({ volume, layer })
  }
  const held = { layers, deps, claims, dependsOn }
  if (files.length === 0) return new Presented(volumes, undefined, { ...held, layers: layers.move() })
  await makeMountPoint(places.images, deps)
  const served = await mountServed(
    (claim, place) =>
      // A backup product that walks over the lease's directory must not store each volume once more.
      serveFiles({
        ...place,
        unlisted: true,
        files: files.map(({ volume, layer }) => ({
          name: imageName(volume, claim),
          source: layer,
          sink: layer,
          modified: volume.modified,
        })),
      }),
    places.images,
    deps,
    claims,
    dependsOn,
  )
  return new Presented(volumes, { ...served, directory: places.images }, { ...held, layers: layers.move() })
}

type MountedVolume = { readonly path: string; readonly claim: ClaimId }
/** The image files, and the directory they are served in. */
type Images = ServedMount & { readonly directory: string }
type Held = {
  readonly layers: AsyncDisposableStack
  readonly deps: PresentDeps
  readonly claims: Claims
  readonly dependsOn: readonly ClaimId[]
}

/** Holds the claim id of the files, so that a loop device over it is known from all others by this name alone. */
const imageName = ({ name }: VolumeToPresent, claim: ClaimId): string => `${name}.${claim}`

class Presented implements PresentedVolumes {
  readonly #volumes: readonly VolumeToPresent[]
  readonly #images: Images | undefined
  readonly #held: Held
  readonly #deps: PresentDeps
  readonly #claims: Claims
  readonly #mounted = new Map<string, MountedVolume>()
  readonly #trees: ServedMount[] = []
  /** Everything taken here, in order: how each is undone. */
  readonly #undo: (() => Promise<void>)[] = []
  /** What stands in the mount table, and the program that serves it where there is one. */
  readonly #places: { readonly path: string; readonly source: string; over: boolean }[] = []

  constructor(volumes: readonly VolumeToPresent[], images: Images | undefined, held: Held) {
    this.#volumes = volumes
    this.#images = images
    this.#held = held
    this.#deps = held.deps
    this.#claims = held.claims
  }

  get activity(): readonly FileActivity[] {
    return [...(this.#images === undefined ? [] : [this.#images]), ...this.#trees].flatMap(({ server }) => server.activity)
  }

  async lost(): Promise<string | undefined> {
    const table = await mountTable()
    const served = [...(this.#images === undefined ? [] : [this.#images]), ...this.#trees]
    const lost = served.map((each) => each.lost(table)).find((each) => each !== undefined)
    if (lost !== undefined) return lost
    const place = this.#places.find(({ path, source, over }) => over || !isMountedIn(table, path, source))
    if (place === undefined) return undefined
    return place.over && isMountedIn(table, place.path, place.source)
      ? `The program that showed ${place.path} has ended.`
      : unmounted(place.path)
  }

  async mount(name: string, directory: string): Promise<void> {
    const volume = this.#volumes.find((each) => each.name === name)
    if (volume === undefined || this.#mounted.has(name)) {
      throw new AgentError('USAGE', `${name} is no volume that can be mounted now.`, { subject: name })
    }
    const ability = await volumeAbility(volume.type, this.#deps)
    if (!ability.verdict.ok) {
      throw new AgentError('CONFIG', `A file system of type ${volume.type} cannot be mounted here: ${ability.verdict.reason}.`, {
        subject: name,
        next: ability.next,
      })
    }
    await makeMountPoint(directory, this.#deps)
    const kind = mountKind(volume.type)
    const claim = kind.by === 'us' ? await this.#serve(volume, directory) : await this.#mountImage(kind, volume, directory)
    this.#mounted.set(name, { path: directory, claim })
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
    this.#taken(again.id, directory, source)
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
    this.#places.length = 0
    for (const undo of this.#undo.splice(0).toReversed()) await attempt(undo)
    await attempt(async () => this.#images?.[Symbol.asyncDispose]())
    await attempt(() => this.#held.layers.disposeAsync())
    // What a claim could not be released for stays in the journal with its reason; the first tells the caller.
    if (failures.length > 0) throw failures[0]
  }

  /** A claim that is undone with this, and its place in the mount table. */
  #taken(claim: ClaimId, path?: string, source?: string): { over: boolean } {
    this.#undo.push(() => this.#claims.release(claim))
    const place = { path: path ?? '', source: source ?? '', over: false }
    if (path !== undefined) this.#places.push(place)
    return place
  }

  async #serve(volume: VolumeToPresent, directory: string): Promise<ClaimId> {
    const tree = await openFatTree(volume.source)
    const { deps, claims, dependsOn } = this.#held
    const served = await mountServed(
      (claim, place) => serveTree({ ...place, tree, name: imageName(volume, claim) }),
      directory,
      deps,
      claims,
      dependsOn,
    )
    this.#trees.push(served)
    this.#undo.push(async () => served[Symbol.asyncDispose]())
    return served.claim.id
  }

  async #mountImage(kind: Exclude<MountKind, { readonly by: 'us' }>, volume: VolumeToPresent, directory: string): Promise<ClaimId> {
    const images = this.#images
    if (images === undefined) throw new TypeError('unreachable: a volume that needs an image file has one')
    const name = imageName(volume, images.claim.id)
    try {
      return await this.#take(kind, join(images.directory, name), directory, images.claim.id)
    } catch (error) {
      // Why the kernel could not: it says little more than "input/output error".
      const seen = this.activity.find((file) => file.name === name)
      throw seen?.writeError ?? seen?.readError ?? error
    }
  }

  /** The claims of one mount; the last one's id. */
  async #take(kind: Exclude<MountKind, { readonly by: 'us' }>, image: string, directory: string, below: ClaimId): Promise<ClaimId> {
    if (kind.by === 'program') {
      const args = { path: directory, source: image, program: kind.program }
      let running: Promise<unknown> | undefined
      const held = await this.#claims.take('volumeMount', args, [below], async () => {
        running = (await mountByProgram(kind, { source: image, directory }, this.#deps)).ended
        return { path: directory }
      })
      const place = this.#taken(held.id, directory, image)
      void running?.then(() => (place.over = true))
      return held.id
    }
    const loop = await this.#claims.take('loopDevice', { file: image }, [below], () => attachLoop(image, this.#deps))
    this.#taken(loop.id)
    const source = loopPath(loop.ref.number)
    const held = await this.#claims.take('volumeMount', { path: directory, source }, [loop.id], async () => {
      await mountByKernel(kind, { source, directory }, this.#deps)
      return { path: directory }
    })
    this.#taken(held.id, directory, source)
    return held.id
  }
}
