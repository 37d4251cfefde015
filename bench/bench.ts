/**
 * `npm run bench`: the product, stock restic, borg and plain copies on the same disk, in turns, on this machine; prints medians, ratios, and whether each
 * goal is met (exit 1 when one is not). What is measured and how to read it: bench/README.md.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { bundle } from '../scripts/build.ts'
import { checkRatios } from './check-ratios.ts'
import { Borg, type Contestant, Copy, NbdCopy, type Places, QemuImg, Restic, Vcb, versionOf } from './contestants.ts'
import { describeFlat } from './describe-flat.ts'
import { Figures } from './figures.ts'
import { fullAndSecond } from './full-and-second.ts'
import { parseSize } from './image.ts'
import { memoryParts } from './memory-parts.ts'
import { mounts } from './mounts.ts'
import { restores } from './restores.ts'
import { stages } from './stages.ts'

const PARTS = ['backup', 'restore', 'stages', 'mount', 'memory'] as const

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '8G' },
    rounds: { type: 'string', default: '5' },
    /** Share of the disk that changes from day 1 to day 2. */
    changed: { type: 'string', default: '0.03' },
    /** Where images and repositories go while it runs; needs about three times the size of the image. */
    dir: { type: 'string', default: tmpdir() },
    /** Where restores into memory go. */
    'memory-dir': { type: 'string', default: '/dev/shm' },
    part: { type: 'string', multiple: true },
    /** Everything that was measured, for programs. */
    json: { type: 'string' },
    /** Compares the ratios with those of this file instead of judging the goals: for CI. */
    check: { type: 'string' },
    'no-verify': { type: 'boolean', default: false },
  },
})

const size = parseSize(values.size)
const rounds = Number(values.rounds)
const changed = Number(values.changed)
const parts = values.part ?? PARTS
for (const part of parts)
  if (!PARTS.some((known) => known === part)) throw new Error(`There is no part ${part}; there are ${PARTS.join(', ')}.`)
const free = statfsSync(values.dir)
// The image, two copies of it, and what four contestants store of it in each round.
if (free.bavail * free.bsize < size * (3 + rounds * 0.75))
  throw new Error(`${values.dir} has too little room for images and repositories; name another with --dir.`)
const resticVersion = versionOf('restic', 'version')
if (resticVersion === undefined) throw new Error('restic is not on this machine; scripts/install-peers.sh brings it.')

/** As an installation has it: a bundle of each program, beside the packages. */
const programs = join(import.meta.dirname, '..', 'node_modules', '.cache', `bench-${process.pid}`)
const work = mkdtempSync(join(values.dir, 'vcb-bench-'))
const memory = mkdtempSync(join(values['memory-dir'], 'vcb-bench-'))
const remove = (): void => {
  for (const directory of [work, memory, programs]) rmSync(directory, { recursive: true, force: true })
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    remove()
    process.kill(process.pid, signal)
  })
}
const figures = new Figures((line) => console.log(line))
try {
  mkdirSync(join(work, 'cache'))
  await bundle(
    {
      'backup-disk': 'bench/backup-disk.ts',
      'restore-disk': 'bench/restore-disk.ts',
      'seal-worker': 'src/restic/seal-worker.ts',
    },
    programs,
  )
  writeFileSync(join(programs, 'package.json'), '{"type":"module"}')
  const flat = join(work, 'bench-flat.vmdk')
  const places: Places = { work, programs, flat, vmdk: describeFlat(flat, size), passwordFile: join(work, 'password') }
  writeFileSync(places.passwordFile, 'bench\n')
  const vcb = new Vcb(places, `on Node ${process.versions.node}`)
  const others = takingPart(places, values.check !== undefined, resticVersion)
  const options = { size, rounds, changed, places, figures, vcb, others, verify: !values['no-verify'] }
  if ((['backup', 'restore', 'stages'] as const).some((part) => parts.includes(part))) await fullAndSecond(options)
  if (parts.includes('restore')) await restores({ ...options, memory })
  if (parts.includes('stages')) await stages({ ...options, memory })
  if (parts.includes('mount')) await mounts({ ...options, memory })
  if (parts.includes('memory')) await memoryParts({ ...options, memory })
  if (values.check !== undefined) {
    figures.goals.length = 0
    checkRatios(figures, values.check)
  }
  if (values.json !== undefined) {
    const tools = Object.fromEntries([vcb, ...others].map(({ name, version }) => [name, version]))
    writeFileSync(values.json, figures.json({ size, rounds, changed, tools }))
  }
} finally {
  remove()
}
console.log(`load ${readFileSync('/proc/loadavg', 'latin1').split(' ').slice(0, 3).join(' ')}`)
for (const { what, met } of figures.goals) console.log(`${met ? 'met   ' : 'MISSED'} ${what}`)
if (figures.goals.some((goal) => !goal.met)) process.exitCode = 1

/** The others that are on this machine; in a check only those that a ratio is of. */
function takingPart(places: Places, check: boolean, restic: string): readonly Contestant[] {
  const all: Contestant[] = [new Restic(places, restic), new Copy(places, versionOf('cp', '--version') ?? '')]
  if (check) return all
  const borg = versionOf('borg', '--version')
  const qemu = versionOf('qemu-img', '--version')
  const nbdcopy = versionOf('nbdcopy', '--version')
  if (borg !== undefined) all.push(new Borg(places, borg))
  if (qemu !== undefined) all.push(new QemuImg(places, qemu))
  if (nbdcopy !== undefined && versionOf('nbdkit', '--version') !== undefined) all.push(new NbdCopy(places, nbdcopy))
  return all
}
