import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Abortable, AgentError, isAgentError, toAgentError } from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import {
  isRealDirectory,
  layOut,
  type Place,
  type PresentedVolumes,
  presentVolumes,
  readMounted,
  readVolumes,
  type Volume,
} from '../mount/index.ts'
import { ownDirectory } from './mount-directory.ts'
import type { MountSource } from './mount-source.ts'
import type { DiskUse, MountDeps, Mounted } from './mount-types.ts'

type Deps = Pick<MountDeps, 'clock' | 'log'>

/** The file systems of a VM, mounted read-only. Disposal undoes all of it. */
export interface ShownVolumes extends AsyncDisposable {
  readonly volumes: Mounted['volumes']
  readonly notMounted: Mounted['notMounted']
  /** What could not be used of what the guest says; sentences. */
  readonly notes: readonly string[]
  readonly uses: readonly DiskUse[]
  readonly lastUsedMs: number | undefined
  /** See `PresentedVolumes`. */
  lost(): Promise<string | undefined>
}

/**
 * Mounts every file system below `directory`, the lease's: `digits/N`, and where the guest has it, `letters/C` and `root/…`. Journals are replayed into a private layer. What
 * cannot be mounted is named with its reason; CONFIG when nothing can.
 */
export async function showVolumes(
  source: MountSource,
  directory: { readonly path: string; readonly claim: Parameters<typeof presentVolumes>[4] },
  deps: Deps,
  claims: Claims,
  options: Abortable,
): Promise<ShownVolumes> {
  const { path } = directory
  const all = await readVolumes(source.disks, options)
  const notMounted: { what: string; reason: string }[] = all.flatMap(({ name, content }) =>
    content.kind === 'refused' ? [{ what: `${name} (${content.what})`, reason: content.reason }] : [],
  )
  const wanted = all.flatMap((volume) => (volume.content.kind === 'file-system' ? [{ volume, content: volume.content }] : []))
  if (wanted.length === 0) throw nothing(source, notMounted)
  const modified = new Date(source.time)
  await using opened = new AsyncDisposableStack()
  const presented = opened.use(
    await presentVolumes(
      wanted.map(({ volume, content }) => ({ name: volume.name, type: content.type, source: volume.source, modified })),
      { images: join(ownDirectory(path), 'volumes'), scratch: tmpdir() },
      deps,
      claims,
      directory.claim,
    ),
  )
  const shown = new Map<Volume, string[]>()
  for (const { volume } of wanted) {
    const failed = await tried(() => presented.mount(volume.name, join(path, 'digits', String(volume.number))))
    if (failed === undefined) shown.set(volume, [`digits/${volume.number}`])
    else notMounted.push({ what: volume.name, reason: failed.message })
  }
  if (shown.size === 0) throw nothing(source, notMounted)
  const layout = await layOut(
    [...shown.keys()],
    source.disks.map(({ key }) => key),
    (volume, names, { limit, anyCase }) =>
      readSmall(join(path, 'digits', String(volume.number)), names, {
        clock: deps.clock,
        limit,
        ignoreCase: anyCase,
        signal: options.signal,
      }),
  )
  const notes = [...layout.notes]
  for (const place of layout.places.filter((each) => !each.path.startsWith('digits/'))) {
    const why = await showAgain(presented, place, path, deps)
    if (why === undefined) shown.get(place.volume)?.push(place.path)
    else notes.push(`${place.volume.name} is not shown as ${place.path}: ${why}.`)
  }
  const held = opened.move()
  return {
    volumes: wanted.flatMap(({ volume, content }) => {
      const paths = shown.get(volume)
      const { type, label } = content
      return paths === undefined
        ? []
        : [{ number: volume.number, name: volume.name, path: paths, type, ...(label === undefined ? {} : { label }) }]
    }),
    notMounted,
    notes,
    get uses() {
      return presented.activity.map(({ name, readBytes, readTo, readErrors, readError, writeError }): DiskUse => {
        const error = readError ?? writeError
        return {
          kind: 'volume',
          label: name.replace(/\.[^.]*$/, ''),
          bytes: wanted.find(({ volume }) => name.startsWith(`${volume.name}.`))?.volume.source.size ?? 0,
          readBytes,
          readTo,
          readErrors: readErrors + (writeError === undefined ? 0 : 1),
          ...(error === undefined ? {} : { readError: error.message }),
        }
      })
    },
    get lastUsedMs() {
      const used = presented.activity.flatMap(({ lastUsedMs }) => lastUsedMs ?? [])
      return used.length === 0 ? undefined : Math.max(...used)
    },
    lost: () => presented.lost(),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

/** Why it failed, where that concerns one volume alone. */
async function tried(work: () => Promise<void>): Promise<AgentError | undefined> {
  try {
    await work()
    return undefined
  } catch (error) {
    const shown = toAgentError(error)
    if (!isAgentError(shown, 'CONFIG', 'INTEGRITY', 'CAPACITY')) throw error
    return shown
  }
}

/** A file that is larger than what is asked for is none of that kind. */
async function readSmall(...[root, names, options]: Parameters<typeof readMounted>): Promise<Buffer | undefined> {
  try {
    return await readMounted(root, names, options)
  } catch (error) {
    if (isAgentError(error, 'CAPACITY')) return undefined
    throw error
  }
}

/** Shows a mounted volume where the guest has it; why not otherwise. */
async function showAgain(presented: PresentedVolumes, place: Place, path: string, deps: Deps): Promise<string | undefined> {
  const [top = '', ...below] = place.path.split('/')
  // Below the guest's root every name must be a directory of its own: a symbolic link would lead into this machine's tree.
  if (top === 'root' && below.length > 0 && !(await isRealDirectory(join(path, place.path), deps))) return 'there is no such directory'
  const failed = await tried(() => presented.mountAgain(place.volume.name, join(path, place.path), place.subvolume))
  return failed?.message.replace(/\.$/, '')
}

function nothing({ vm }: MountSource, notMounted: Mounted['notMounted']): AgentError {
  const reasons = notMounted.map(({ what, reason }) => `${what}: ${reason}`).join('; ')
  return new AgentError('CONFIG', `No file system of ${vm.name} can be shown${reasons === '' ? '' : `: ${reasons}`}.`, {
    subject: vm.name,
    next: 'Mount it with --type disk, and see "vcb doctor" for what this proxy can mount.',
  })
}
