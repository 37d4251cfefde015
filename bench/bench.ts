/**
 * `npm run bench`: stock restic and our engine on the same disk, in turns, on this machine; prints medians, the ratios, and whether each goal
 * is met (exit 1 when one is not). What is measured and how to read it: bench/README.md.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import type { DiskBackup } from './backup-disk.ts'
import { changeImage, makeImage, makeSparseImage, parseSize } from './image.ts'
import { type Cost, measure, median } from './measure.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB
const RSS_GOAL = 300e6

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '8G' },
    rounds: { type: 'string', default: '3' },
    /** Share of the disk that changes from day 1 to day 2. */
    changed: { type: 'string', default: '0.01' },
    /** Where images and repositories go while it runs; needs about the size of the image. */
    dir: { type: 'string', default: tmpdir() },
    'no-verify': { type: 'boolean', default: false },
  },
})

type Tool = { readonly full: Cost[]; readonly incremental: Cost[] }
type Goal = { readonly what: string; readonly met: boolean }

const size = parseSize(values.size)
const rounds = Number(values.rounds)
const share = Number(values.changed)
const work = mkdtempSync(join(values.dir, 'vcb-bench-'))
const passwordFile = join(work, 'password')
const restic = (repository: string, ...args: readonly string[]) =>
  measure('restic', ['--repo', repository, '--password-file', passwordFile, '--quiet', ...args], { RESTIC_CACHE_DIR: join(work, 'cache') })
const ours = async (...args: readonly string[]): Promise<Cost & DiskBackup> => {
  const { output, ...cost } = await measure(process.execPath, [join(import.meta.dirname, 'backup-disk.ts'), ...args], {
    NODE_COMPILE_CACHE: join(work, 'compiled'),
  })
  return { ...cost, ...(JSON.parse(output.trim().split('\n').at(-1) ?? '') as DiskBackup) }
}

/** A descriptor over a flat file that is there already. */
function describeFlat(flat: string, bytes: number): string {
  const vmdk = flat.replace(/-flat\.vmdk$/, '.vmdk')
  const sectors = bytes / 512
  const text = [
    '# Disk DescriptorFile',
    'version=1',
    'CID=fffffffe',
    'parentCID=ffffffff',
    'createType="vmfs"',
    `RW ${sectors} VMFS "${basename(flat)}"`,
    'ddb.adapterType = "lsilogic"',
    `ddb.geometry.cylinders = "${Math.min(65535, Math.floor(sectors / 255 / 63))}"`,
    'ddb.geometry.heads = "255"',
    'ddb.geometry.sectors = "63"',
    'ddb.virtualHWVersion = "13"',
    '',
  ]
  writeFileSync(vmdk, text.join('\n'))
  return vmdk
}

/** Bytes of all files under a folder. */
const bytesIn = (folder: string): number =>
  Number(execFileSync('du', ['-s', '--apparent-size', '--block-size=1', folder], { encoding: 'utf8' }).split('\t')[0])

const total = (ranges: readonly { readonly length: number }[]): number => ranges.reduce((sum, range) => sum + range.length, 0)
const line = (what: string, costs: readonly Cost[]): string =>
  `  ${what.padEnd(22)} ${median(costs.map((cost) => cost.wallSeconds))
    .toFixed(2)
    .padStart(8)} s  ${median(costs.map((cost) => cost.cpuSeconds))
    .toFixed(2)
    .padStart(8)} CPU s  ${Math.round(Math.max(...costs.map((cost) => cost.rssBytes)) / 1e6)
    .toString()
    .padStart(5)} MB resident`
const ratio = (a: readonly Cost[], b: readonly Cost[], of: 'wallSeconds' | 'cpuSeconds'): number =>
  median(a.map((cost) => cost[of])) / median(b.map((cost) => cost[of]))

/** Both tools in turns, the one that begins changing from round to round; the disk cache is settled between them. */
async function inTurns(steps: {
  readonly restic: (round: number) => Promise<void>
  readonly vcb: (round: number) => Promise<void>
}): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const tool of round % 2 === 0 ? (['restic', 'vcb'] as const) : (['vcb', 'restic'] as const)) {
      execFileSync('sync')
      await steps[tool](round)
    }
  }
}

async function compare(goals: Goal[]): Promise<void> {
  const flat = join(work, 'bench-flat.vmdk')
  const allocated = total(makeImage(flat, size))
  const vmdk = describeFlat(flat, size)
  const of = (tool: string, round: number): string => join(work, `${tool}-${round}`)
  console.log(`disk of ${size / MIB} MiB, ${Math.round(allocated / MIB)} MiB allocated; ${rounds} rounds in turns, medians, warm cache`)
  const theirs: Tool = { full: [], incremental: [] }
  const mine: Tool & { points: string[] } = { full: [], incremental: [], points: [] }
  const stored = (tool: string): string => `  repository ${Math.round(bytesIn(of(tool, 0)) / MIB)} MiB`
  for (let round = 0; round < rounds; round++) {
    for (const tool of ['restic', 'vcb']) await restic(of(tool, round), 'init', '--repository-version', '2')
  }
  await inTurns({
    restic: async (round) => void theirs.full.push(await restic(of('restic', round), 'backup', flat)),
    vcb: async (round) => {
      const run = await ours(vmdk, of('vcb', round), passwordFile)
      mine.full.push(run)
      mine.points.push(run.point)
    },
  })
  console.log('full')
  console.log(line('restic backup', theirs.full) + stored('restic'))
  console.log(line('vcb', mine.full) + stored('vcb'))
  const wall = ratio(mine.full, theirs.full, 'wallSeconds')
  console.log(
    `  ratio vcb/restic        ${wall.toFixed(2)} of the time, ${ratio(mine.full, theirs.full, 'cpuSeconds').toFixed(2)} of the CPU`,
  )
  goals.push({ what: `a full takes no longer than stock restic (ratio ${wall.toFixed(2)})`, met: wall <= 1 })

  const changes = changeImage(flat, share)
  const list = join(work, 'changed.json')
  writeFileSync(list, JSON.stringify(changes))
  let read = 0
  await inTurns({
    restic: async (round) => void theirs.incremental.push(await restic(of('restic', round), 'backup', flat)),
    vcb: async (round) => {
      const run = await ours(vmdk, of('vcb', round), passwordFile, mine.points[round] ?? '', list)
      mine.incremental.push(run)
      read = run.readBytes
    },
  })
  console.log(`incremental, ${(share * 100).toFixed(1)} % changed in ${changes.length} places`)
  console.log(line('restic backup', theirs.incremental) + stored('restic'))
  console.log(line('vcb', mine.incremental) + stored('vcb'))
  console.log(
    `  ratio vcb/restic        ${ratio(mine.incremental, theirs.incremental, 'wallSeconds').toFixed(2)} of the time, ${ratio(mine.incremental, theirs.incremental, 'cpuSeconds').toFixed(2)} of the CPU`,
  )
  const readShare = read / size
  console.log(`  read from the source    ${(read / MIB).toFixed(1)} MiB, ${(readShare * 100).toFixed(2)} % of the disk`)
  goals.push({
    what: `an incremental reads at most 1.5 times what changed (${(read / total(changes)).toFixed(2)})`,
    met: read > 0 && readShare <= share * 1.5,
  })
  const rss = Math.max(...[...mine.full, ...mine.incremental].map((cost) => cost.rssBytes))
  goals.push({ what: `resident memory stays within ${RSS_GOAL / 1e6} MB (${Math.round(rss / 1e6)})`, met: rss <= RSS_GOAL })
  if (!values['no-verify']) goals.push(await verify(of('vcb', rounds - 1), flat))
}

/** Stock restic reads everything of our repository, and gives back the disk as it is now. */
async function verify(repository: string, flat: string): Promise<Goal> {
  await restic(repository, 'check', '--read-data')
  const { output } = await measure('restic', ['--repo', repository, '--password-file', passwordFile, 'ls', '--json', 'latest'], {
    RESTIC_CACHE_DIR: join(work, 'cache'),
  })
  const files = output.split('\n').flatMap((text) => (text.includes('-flat.vmdk"') ? [(JSON.parse(text) as { path: string }).path] : []))
  const digest = (command: string, environment: Record<string, string> = {}): string =>
    execFileSync('bash', ['-o', 'pipefail', '-c', command], { encoding: 'utf8', env: { ...process.env, ...environment } }).slice(0, 64)
  const asRestic = { RESTIC_REPOSITORY: repository, RESTIC_PASSWORD_FILE: passwordFile, RESTIC_CACHE_DIR: join(work, 'cache') }
  const same = files.length === 1 && digest(`restic dump latest '${files[0]}' | sha256sum`, asRestic) === digest(`sha256sum <'${flat}'`)
  return { what: 'stock restic finds the repository sound and gives back the same disk', met: same }
}

/** A disk of 2 TiB with 1 GiB in it: the empty part costs nothing. */
async function sparse(goals: Goal[]): Promise<void> {
  const flat = join(work, 'sparse-flat.vmdk')
  const data = Math.min(GIB, size / 8)
  makeSparseImage(flat, 2048 * GIB, data)
  const repository = join(work, 'sparse')
  await restic(repository, 'init', '--repository-version', '2')
  const run = await ours(describeFlat(flat, 2048 * GIB), repository, passwordFile)
  console.log(`full of a disk of 2 TiB with ${data / MIB} MiB of data`)
  console.log(line('vcb', [run]), ` ${Math.round(run.storedBytes / MIB)} MiB stored, ${Math.round(run.readBytes / MIB)} MiB read`)
  goals.push({
    what: `of 2 TiB only the data is read and stored (${Math.round(run.readBytes / MIB)} and ${Math.round(run.storedBytes / MIB)} MiB), in ${Math.round(run.rssBytes / 1e6)} MB`,
    met: run.readBytes > 0 && run.readBytes <= data * 1.1 && run.storedBytes <= data * 1.1 && run.rssBytes <= RSS_GOAL,
  })
}

const free = statfsSync(values.dir)
if (free.bavail * free.bsize < size * 2)
  throw new Error(`${values.dir} has too little room for images and repositories; name another with --dir.`)
try {
  execFileSync('restic', ['version'], { stdio: 'ignore' })
} catch (error) {
  throw new Error('restic is not on this machine; scripts/install-peers.sh brings it.', { cause: error })
}
const goals: Goal[] = []
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    rmSync(work, { recursive: true, force: true })
    process.kill(process.pid, signal)
  })
}
try {
  mkdirSync(join(work, 'cache'))
  writeFileSync(passwordFile, 'bench\n')
  await compare(goals)
  await sparse(goals)
} finally {
  rmSync(work, { recursive: true })
}
console.log(`load ${readFileSync('/proc/loadavg', 'latin1').split(' ').slice(0, 3).join(' ')}`)
for (const { what, met } of goals) console.log(`${met ? 'met   ' : 'MISSED'} ${what}`)
if (goals.some((goal) => !goal.met)) process.exitCode = 1
