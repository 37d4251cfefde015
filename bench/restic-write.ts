/**
 * Our whole write path of a disk image (read, zero test, SHA-256, zstd, seal, pack, index, snapshot) against stock restic on the same
 * file, in one run, interleaved. Prints CPU and wall seconds of each, the ratios and our peak RSS.
 *
 *   node bench/restic-write.ts [--mib 1024] [--rounds 3] [--workers N] [--codec auto|zlib] [--image FILE]
 *
 * Without `--image` a sparse image is made: half holes; of the data a third text-like, a third program text of the node binary, a sixth
 * random, a sixth repeated. Each side runs as a child, so that CPU and memory are its own.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, open, rm, stat } from 'node:fs/promises'
import { availableParallelism, hostname, tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { MIB, Secret, silentLog, systemClock } from '../src/core/index.ts'
import { BlobIds, directoryBackend, initRepository } from '../src/restic/index.ts'

const BLOCK = MIB

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '3' },
    workers: { type: 'string', default: String(Math.min(4, availableParallelism())) },
    codec: { type: 'string', default: 'auto' },
    image: { type: 'string' },
    write: { type: 'string' },
  },
})

type Cost = { wall: number; cpu: number; rssMiB: number }

async function compare(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-bench-'))
  try {
    const image = values.image ?? (await makeImage(join(directory, 'disk.img'), Number(values.mib)))
    const ours: Cost[] = []
    const theirs: Cost[] = []
    for (let round = 0; round < Number(values.rounds); round++) {
      const repository = join(directory, `ours-${round}`)
      const args = ['bench/restic-write.ts', '--write', repository, '--image', image, '--workers', values.workers, '--codec', values.codec]
      ours.push(measure(process.execPath, args, {}))
      const oursMiB = size(repository)
      await rm(repository, { recursive: true })
      const other = join(directory, `restic-${round}`)
      const env = { RESTIC_REPOSITORY: other, RESTIC_PASSWORD: 'bench', RESTIC_CACHE_DIR: join(directory, 'cache') }
      execFileSync('restic', ['init', '--repository-version', '2'], { env: { ...process.env, ...env }, stdio: 'ignore' })
      theirs.push(measure('restic', ['backup', '--quiet', image], env))
      const theirsMiB = size(other)
      await rm(other, { recursive: true })
      console.log(JSON.stringify({ round, ours: ours.at(-1), oursMiB, restic: theirs.at(-1), resticMiB: theirsMiB }))
    }
    const cpu = median(theirs.map((cost) => cost.cpu)) / median(ours.map((cost) => cost.cpu))
    const wall = median(theirs.map((cost) => cost.wall)) / median(ours.map((cost) => cost.wall))
    const rssMiB = Math.max(...ours.map((cost) => cost.rssMiB))
    console.log(JSON.stringify({ resticOverOursCpu: round2(cpu), resticOverOursWall: round2(wall), oursPeakRssMiB: rssMiB }))
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function writeOnce(image: string, path: string): Promise<void> {
  const deps = {
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    hostname: hostname(),
    username: userInfo().username,
    pid: process.pid,
  }
  const kdf = { N: 1024, r: 8, p: 1 }
  const codec = values.codec === 'zlib' ? 'zlib' : 'auto'
  const backend = directoryBackend(path)
  await using repository = await initRepository(backend, new Secret('bench'), deps, { kdf, workers: Number(values.workers), codec })
  await using writer = await repository.beginWrite()
  await using file = await open(image, 'r')
  const total = (await file.stat()).size
  const content = new BlobIds(Math.ceil(total / BLOCK))
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < content.length) {
      const block = next++
      const length = Math.min(BLOCK, total - block * BLOCK)
      const slot = await writer.blocks.acquire()
      await file.read(slot.bytes, 0, length, block * BLOCK)
      content.set(block, (await writer.blocks.submit(slot, length)).id)
    }
  }
  await Promise.all(Array.from({ length: writer.blocks.slots }, lane))
  const time = systemClock.now().toISOString()
  const tree = await writer.saveTree([{ name: 'disk.img', type: 'file', mode: 0o600, mtime: time, size: total, content }])
  await writer.commit({ time, tree, paths: ['/disk.img'], hostname: deps.hostname, username: deps.username })
}

/** Wall, CPU and peak memory of a child and its children, from GNU time's format through the shell's own accounting. */
function measure(command: string, args: readonly string[], env: Record<string, string>): Cost {
  const script = [
    'import os, sys, time, resource, subprocess',
    't = time.time(); code = subprocess.call(sys.argv[1:]); wall = time.time() - t',
    'u = resource.getrusage(resource.RUSAGE_CHILDREN)',
    'sys.stderr.write("%f %f %d" % (wall, u.ru_utime + u.ru_stime, u.ru_maxrss)); sys.exit(code)',
  ].join('\n')
  const run = spawnSync('python3', ['-c', script, command, ...args], { env: { ...process.env, ...env }, encoding: 'utf8' })
  if (run.status !== 0) throw new Error(`${command} failed: ${run.stderr}`)
  const [wall = 0, cpu = 0, rss = 0] = (run.stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number)
  return { wall: round2(wall), cpu: round2(cpu), rssMiB: Math.round(rss / 1024) }
}

async function makeImage(path: string, mib: number): Promise<string> {
  await using file = await open(path, 'w')
  await file.truncate(mib * MIB)
  await using program = await open(process.execPath, 'r')
  const programMiB = Math.floor((await stat(process.execPath)).size / MIB) - 1
  const words = Array.from({ length: 512 }, () => randomBytes(2 + (randomBytes(1)[0] ?? 0) / 32).toString('hex'))
  const repeated = randomBytes(MIB)
  for (let block = 0; block < mib; block++) {
    if (Math.floor(block / 16) % 2 === 1) continue
    let data: Buffer
    const kind = block % 6
    if (kind < 2) {
      const picks = randomBytes(300_000)
      let text = ''
      for (let at = 0; text.length < MIB; at += 2) text += `${words[picks.readUInt16LE(at % 299_998) % words.length] ?? ''} `
      data = Buffer.from(text.slice(0, MIB))
    } else if (kind < 4) {
      data = Buffer.alloc(MIB)
      await program.read(data, 0, MIB, (block % programMiB) * MIB)
    } else data = kind === 4 ? randomBytes(MIB) : repeated
    await file.write(data, 0, MIB, block * MIB)
  }
  await file.sync()
  return path
}

const size = (path: string): number => Number(execFileSync('du', ['-sm', path], { encoding: 'utf8' }).split('\t')[0])
const round2 = (value: number): number => Math.round(value * 100) / 100
function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

if (values.write === undefined) await compare()
else await writeOnce(values.image ?? '', values.write)
