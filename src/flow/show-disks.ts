import { join } from 'node:path'
import { type ClaimId, type FileReader, isAgentError } from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import { type PresentedImages, presentImages } from '../mount/index.ts'
import { serveNbd } from '../nbd/index.ts'
import { exportStem } from '../provider/index.ts'
import { ownDirectory } from './mount-directory.ts'
import type { MountSource } from './mount-source.ts'
import type { DiskUse, MountDeps, Mounted } from './mount-types.ts'

type Deps = Pick<MountDeps, 'clock' | 'log'>

/** What other programs can read now. Disposal ends what is under way and takes it away. */
export interface ShownDisks extends AsyncDisposable {
  /** Disk label → the URI of its NBD export. */
  readonly uris: ReadonlyMap<string, string>
  /** Disk label → its raw file; empty where this proxy shows none. */
  readonly files: ReadonlyMap<string, string>
  readonly notShown: Mounted['notMounted']
  /** How each was read until now, in both ways together. */
  readonly uses: readonly DiskUse[]
  /** `Clock.monotonicMs` of the last read; undefined before the first. */
  readonly lastUsedMs: number | undefined
  /** See `PresentedImages`. */
  lost(): Promise<string | undefined>
}

/**
 * Offers each disk as an NBD export, named by its label, on a socket in the part of the directory that is ours alone, and where this proxy can, as a raw file below `disks/`.
 * Errors: CONFIG (the path is too long), CONFLICT.
 */
export async function showDisks(
  source: MountSource,
  directory: { readonly path: string; readonly claim: ClaimId },
  { clock, log }: Deps,
  claims: Claims,
  reader?: FileReader,
): Promise<ShownDisks> {
  await using opened = new AsyncDisposableStack()
  const path = nbdSocket(directory.path)
  const server = opened.use(
    await serveNbd({
      path,
      exports: source.disks.map((disk) => ({
        name: disk.label,
        description: `${disk.label} of ${source.vm.name}, ${source.time}`,
        source: disk.source,
      })),
      clock,
      log,
    }),
  )
  const names = new Map(source.disks.map((disk) => [disk.label, `${exportStem(disk)}.raw`]))
  const images = await rawFiles(source, names, directory, { clock, log }, claims, reader)
  if (!('reason' in images)) opened.use(images)
  const activity = 'reason' in images ? [] : [images]
  const held = opened.move()
  return {
    uris: new Map(source.disks.map(({ label }) => [label, nbdUri(path, label)])),
    files: 'reason' in images ? new Map() : new Map([...names].map(([label, name]) => [label, join(directory.path, 'disks', name)])),
    notShown: 'reason' in images ? [{ what: 'raw files', reason: images.reason }] : [],
    get uses() {
      return source.disks.map(({ label, capacityBytes }): DiskUse => {
        const ways = [
          ...server.activity.filter(({ name }) => name === label),
          ...activity.flatMap((shown) => shown.activity.filter(({ name }) => name === names.get(label))),
        ]
        const error = ways.find(({ readError }) => readError !== undefined)?.readError
        return {
          kind: 'disk',
          label,
          bytes: capacityBytes,
          readBytes: ways.reduce((sum, { readBytes }) => sum + readBytes, 0),
          readTo: Math.max(...ways.map(({ readTo }) => readTo)),
          readErrors: ways.reduce((sum, { readErrors }) => sum + readErrors, 0),
          ...(error === undefined ? {} : { readError: error.message }),
        }
      })
    },
    get lastUsedMs() {
      const used = [...server.activity, ...activity.flatMap((shown) => shown.activity)].flatMap(({ lastUsedMs }) => lastUsedMs ?? [])
      return used.length === 0 ? undefined : Math.max(...used)
    },
    lost: async () => ('reason' in images ? undefined : images.lost()),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

/** Raw files, or why this proxy shows none: an NBD export needs neither root nor FUSE, so that is no failure. */
async function rawFiles(
  source: MountSource,
  names: ReadonlyMap<string, string>,
  directory: { readonly path: string; readonly claim: ClaimId },
  deps: Deps,
  claims: Claims,
  reader: FileReader | undefined,
): Promise<PresentedImages | { readonly reason: string }> {
  const modified = new Date(source.time)
  const images = source.disks.map((disk) => ({ name: names.get(disk.label) ?? disk.label, source: disk.source, modified }))
  try {
    return await presentImages(images, join(directory.path, 'disks'), deps, claims, [directory.claim], reader)
  } catch (error) {
    if (!isAgentError(error, 'CONFIG')) throw error
    return { reason: error.message }
  }
}

/** Where the exports of a lease are served. */
export const nbdSocket = (directory: string): string => join(ownDirectory(directory), 'nbd.sock')

/** The URI of one export (the NBD URI specification, `nbd+unix`). */
const nbdUri = (socket: string, name: string): string =>
  `nbd+unix:///${encodeURIComponent(name)}?socket=${socket.split('/').map(encodeURIComponent).join('/')}`
