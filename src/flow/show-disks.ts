import { join } from 'node:path'
import { type NbdServer, serveNbd } from '../nbd/index.ts'
import { ownDirectory } from './mount-directory.ts'
import type { MountSource } from './mount-source.ts'
import type { DiskUse, MountDeps } from './mount-types.ts'

/** What other programs can read now. Disposal ends what is under way and takes it away. */
export interface ShownDisks extends AsyncDisposable {
  /** Disk label → the URI of its NBD export. */
  readonly uris: ReadonlyMap<string, string>
  /** How each was read until now. */
  readonly uses: readonly DiskUse[]
  /** `Clock.monotonicMs` of the last read; undefined before the first. */
  readonly lastUsedMs: number | undefined
}

/** Offers each disk as an NBD export, named by its label, on a socket in the part of the directory that is ours alone. Errors: CONFIG (the path is too long), CONFLICT. */
export async function showDisks(
  source: MountSource,
  directory: string,
  { clock, log }: Pick<MountDeps, 'clock' | 'log'>,
): Promise<ShownDisks> {
  const path = join(ownDirectory(directory), 'nbd.sock')
  const server = await serveNbd({
    path,
    exports: source.disks.map((disk) => ({
      name: disk.label,
      description: `${disk.label} of ${source.vm.name}, ${source.time}`,
      source: disk.source,
    })),
    clock,
    log,
  })
  const bytes = new Map(source.disks.map(({ label, capacityBytes }) => [label, capacityBytes]))
  return {
    uris: new Map(source.disks.map(({ label }) => [label, nbdUri(path, label)])),
    get uses() {
      return usesOf(server, bytes)
    },
    get lastUsedMs() {
      const used = server.activity.flatMap(({ lastUsedMs }) => lastUsedMs ?? [])
      return used.length === 0 ? undefined : Math.max(...used)
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

/** The URI of one export (the NBD URI specification, `nbd+unix`). */
const nbdUri = (socket: string, name: string): string =>
  `nbd+unix:///${encodeURIComponent(name)}?socket=${socket.split('/').map(encodeURIComponent).join('/')}`

const usesOf = (server: NbdServer, bytes: ReadonlyMap<string, number>): readonly DiskUse[] =>
  server.activity.map(({ name, readBytes, readTo, readErrors, readError }) => ({
    label: name,
    bytes: bytes.get(name) ?? 0,
    readBytes,
    readTo,
    readErrors,
    ...(readError === undefined ? {} : { readError: readError.message }),
  }))
