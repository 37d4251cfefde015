import { stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { type Agent, exportPlace } from '../../agent/index.ts'
import { fromErrno, isAgentError, isThere } from '../../core/index.ts'
import type { BackupReader } from '../../provider/index.ts'
import { printable } from '../io.ts'
import { mountFiles, reportMounted, unmountFiles } from './file-mount.ts'
import { usage } from './flags.ts'
import type { Tool, ToolCall } from './tool.ts'

/** `mountvm`: the files in an exported disk, or in all disks of an export, for picking some out. */
export const mountvm: Tool = {
  name: 'mountvm',
  flags: { d: 'value', u: 'value', cycleId: 'switch', L: 'value', Q: 'switch' },
  help: `Usage: mountvm -d DISK [-cycleId] DIR
       mountvm -u DIR

Mounts the file systems of a disk that lies here as a VMDK (flat, sparse pieces, streamOptimized, with its parents) read-only in DIR: DIR/letters/C, DIR/digits/1,
DIR/root. DISK is its descriptor; or the directory of an export, for all disks of that VM; or a restore point of VCB_REPO, VM@latest or point:ID. What lies in an export of ours is proven block by block while it is read; of any other disk
nothing is known. No vSphere is needed; root is. It is held as "vcbMounter -t file" holds a mount.

  -cycleId  taken and ignored: nothing is written to the disk, so its ids need not change
  -u DIR    unmounts; for a directory that is not there it is success
  -L 0..6   how much is logged to standard error: 0 errors alone, 6 everything
  -Q        quiet
`,
  examples: [
    'mountvm -d /export/web01/scsi0-0-0-web01.vmdk -cycleId /mnt/web01',
    'mountvm -d /export/web01 /mnt/web01',
    'mountvm -u /mnt/web01',
  ],
  exits: {
    5: 'no such disk',
    6: 'DIR is not empty',
    9: 'it is no disk, or not what was exported; with -u: a reader got an error, or the mount had ended before',
    12: 'a file system is missing',
  },
  run: async (call) => {
    const { values, rest } = call.flags
    const mounted = values.get('u')
    if (mounted !== undefined) {
      if (rest.length > 0 || values.has('d')) throw usage('mountvm', 'mountvm -u takes one directory and nothing else.')
      return unmount(call, resolve(mounted))
    }
    const [directory, more] = rest
    const disk = values.get('d')
    if (disk === undefined || directory === undefined || more !== undefined)
      throw usage('mountvm', 'mountvm needs a disk (-d) and one directory.')
    const { what, flags, others } = await sourceOf(call, disk)
    return reportMounted(call, await mountFiles(call, what, resolve(directory), flags), others)
  },
}

async function unmount(call: ToolCall, directory: string): Promise<number> {
  return call.withAgent(async (session) => {
    const done = await unmountFiles(call, session, directory)
    if (done === undefined && !call.flags.values.has('Q')) session.output.note(`Nothing is mounted in ${printable(directory)}`)
    return done ?? 0
  })
}

type Source = { readonly what: string; readonly flags: readonly string[]; readonly others: readonly string[] }

/** What `vcb mount` is to be told: the point that the disk is of, with the others left out, where one is; the bare disk otherwise. */
async function sourceOf(call: ToolCall, disk: string): Promise<Source> {
  if (/^point:.|.@latest$/s.test(disk) && !(await isThere(disk))) return { what: disk, flags: [], others: [] }
  const path = resolve(disk)
  const whole = await isDirectory(path)
  const place = exportPlace(whole ? path : dirname(path))
  const others = await call.withAgent(async ({ agent }) => otherDisks(agent, place.point, whole ? undefined : basename(path)), {
    repo: place.url,
  })
  if (others === undefined) return { what: `vmdk:${path}`, flags: [], others: [] }
  return { what: `point:${place.point}`, flags: [`--repo=${place.url}`, ...others.map((label) => `--exclude-disk=${label}`)], others }
}

/** The labels of the export's other disks; undefined when there is no whole export, or none with that disk. Of a directory that is none: its own error. */
async function otherDisks(agent: Agent, point: string, descriptor: string | undefined): Promise<readonly string[] | undefined> {
  const store = await agent.points()
  let reader: BackupReader
  try {
    reader = await store.open(point)
  } catch (error) {
    if (descriptor !== undefined && isAgentError(error, 'INTEGRITY', 'NOT_FOUND', 'USAGE')) return undefined
    throw error
  }
  await using held = reader
  const { disks, images } = held.manifest
  if (descriptor === undefined) return []
  const wanted = (images ?? []).find((image) => image.descriptor === descriptor)
  return wanted === undefined ? undefined : disks.filter(({ key }) => key !== wanted.key).map(({ label }) => label)
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}
