import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { versionOf } from './contestants.ts'
import { dataOf, firstBytes } from './first-bytes.ts'
import type { BenchOptions } from './full-and-second.ts'
import { makeImage } from './image.ts'
import { inTurns } from './in-turns.ts'
import { type Cost, measure, median } from './measure.ts'
import { NbdkitFile, type NbdServing, VcbMount } from './nbd-serving.ts'

const MIB = 1024 * 1024
/** The goals: what a disk of a point gives, bytes a second, or which part of the speed of nbdkit; and when its first byte is there, seconds. */
const SPEED = 400e6
const SHARE = 0.5
const FIRST_BYTE = 0.2

type Turn = { readonly command: Cost; readonly connected: Cost; readonly nbdcopy: Cost; readonly qemu: Cost | undefined }

/** The disk of the point that was stored last, read over NBD out of `vcb mount`, and the same bytes out of `nbdkit file`. */
export async function mounts(options: BenchOptions & { readonly memory: string }): Promise<void> {
  const { rounds, places, figures, vcb, size } = options
  if (versionOf('nbdkit', '--version') === undefined || versionOf('nbdcopy', '--version') === undefined) {
    figures.title('mount: not measured, nbdkit or nbdcopy is not on this machine')
    return
  }
  if (vcb.last[0] === undefined) {
    makeImage(places.flat, size)
    await vcb.prepare(0)
    await vcb.full(0)
  }
  // Written zeros become holes, so that neither side has to send what the other need not.
  const raw = join(options.memory, 'disk.raw')
  execFileSync('cp', ['--sparse=always', places.flat, raw])
  const bytes = dataOf(raw)
  figures.title(`mount of a point, ${Math.round(bytes / MIB)} MiB of its disk are not zeros`)
  const directory = join(options.memory, 'mount')
  mkdirSync(directory)
  const ours = new VcbMount({
    ...places,
    passwordFile: vcb.passwordFile(0),
    directory,
    repository: vcb.repository(0),
    point: vcb.last[0]?.point ?? '',
  })
  const all: readonly NbdServing[] = [ours, new NbdkitFile({ directory, raw })]
  const turns = await inTurns(all, rounds, (each, round) => turn(each, places.flat, options.verify && round === 0))
  const opened = await inTurns([ours], rounds, () => ours.openedOnly(places.flat))

  const add = (part: string, of: (turn: Turn) => Cost | undefined, dataBytes?: number): void => {
    for (const [{ name }, its] of turns) {
      const costs = its.flatMap((each) => of(each) ?? [])
      if (costs.length > 0) figures.add({ part, tool: name, costs, dataBytes })
    }
  }
  figures.title('first byte, from the start of the command')
  add('mount: command to first byte', ({ command }) => command)
  figures.title('first byte, from the connect to a server that nobody has read from')
  add('mount: connect to first byte', ({ connected }) => connected)
  figures.title('first byte, from the open repository: point, disk, server, connect')
  figures.add({ part: 'mount: open repository to first byte', tool: ours.name, costs: opened.get(ours) ?? [] })
  figures.title('the whole disk by nbdcopy to null:')
  add('mount: nbdcopy', ({ nbdcopy }) => nbdcopy, bytes)
  figures.title('the whole disk by qemu-img convert to null-co')
  add('mount: qemu-img', ({ qemu }) => qemu, bytes)
  judge(options, ours.name, bytes)
}

async function turn(serving: NbdServing, flat: string, verify: boolean): Promise<Turn> {
  await using server = await serving.start()
  const connected = await firstBytes(server, flat)
  const command = { ...server.cost(), wallSeconds: server.startSeconds + connected.wallSeconds }
  if (verify) refuseAnother(server.uri, flat)
  const nbdcopy = await server.reading(() => measure('nbdcopy', [server.uri, 'null:']))
  const qemu =
    versionOf('qemu-img', '--version') === undefined ? undefined : await server.reading(() => measure('qemu-img', toNull(server)))
  return { command, connected, nbdcopy, qemu }
}

const toNull = ({ path, name, size }: { readonly path: string; readonly name: string; readonly size: number }): readonly string[] => [
  'convert',
  '-n',
  '--image-opts',
  `driver=nbd,server.type=unix,server.path=${path},export=${name}`,
  '--target-image-opts',
  `driver=null-co,size=${size}`,
]

/** What is served is the disk. */
function refuseAnother(uri: string, flat: string): void {
  const digest = (command: string): string => execFileSync('bash', ['-o', 'pipefail', '-c', command], { encoding: 'utf8' }).slice(0, 64)
  const [served, stored] = [digest(`nbdcopy '${uri}' - | sha256sum`), digest(`sha256sum <'${flat}'`)]
  if (served !== stored) throw new Error(`${uri} gives another disk: ${served} instead of ${stored}`)
}

function judge({ figures }: BenchOptions, ours: string, bytes: number): void {
  const seconds = (part: string): number => median(figures.of(part, ours)?.costs.map(({ wallSeconds }) => wallSeconds) ?? [])
  const slower = figures.ratio('mount: nbdcopy', ours, 'nbdkit file')
  figures.ratio('mount: nbdcopy', ours, 'nbdkit file', 'cpuSeconds')
  figures.ratio('mount: qemu-img', ours, 'nbdkit file')
  const speed = bytes / seconds('mount: nbdcopy')
  const [mb, share] = [Math.round(speed / 1e6), Math.round(100 / slower)]
  figures.goal(
    `a disk of a point is read over NBD at ${SPEED / 1e6} MB/s or half of nbdkit's speed (${mb}, ${share} %)`,
    speed,
    speed >= SPEED || 1 / slower >= SHARE,
  )
  for (const [part, what] of [
    ['mount: connect to first byte', 'of a mounted point'],
    ['mount: open repository to first byte', 'of a point of an open repository'],
  ] as const) {
    const first = seconds(part)
    figures.goal(`the first byte ${what} is there within 200 ms (${Math.round(first * 1000)})`, first, first <= FIRST_BYTE)
  }
}
