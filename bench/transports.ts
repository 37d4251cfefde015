/**
 * `npm run bench:transports`: each transport against the plainest way to move the same bytes, in turns, on this machine's loopback; prints medians,
 * ratios, and whether each goal is met (exit 1 when one is not). What is measured and how to read it: bench/README.md.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fsyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type OpenSshd, startSshd } from '../test/openssh.ts'
import { peer } from '../test/peer.ts'
import { LabProcess } from '../test/storm/lab-process.ts'
import { parseSize } from './image.ts'
import { type Cost, measure, median } from './measure.ts'
import { seededRandom } from './random.ts'
import { type Effort, NO_EFFORT, type ReadCost } from './read-cost.ts'

const MIB = 1024 * 1024
/** Disks read at once, in turns. */
const COUNTS = [1, 2, 4] as const
const DISKS = 4
/** A core is full: what is left goes to waking up and to the kernel's other work. */
const FULL = 0.9

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '1G' },
    rounds: { type: 'string', default: '5' },
    only: { type: 'string' },
    dir: { type: 'string', default: tmpdir() },
    /** Folder for CPU profiles of lab and reader. */
    profile: { type: 'string' },
  },
})
const size = parseSize(values.size)
const rounds = Number(values.rounds)
const work = mkdtempSync(join(values.dir, 'vcb-bench-'))

/** A transport, what it is compared with, and the share of that speed it has to reach. */
type Match = { readonly transport: string; readonly yardstick: Yardstick; readonly goal: number }
type Yardstick = PlainWire | 'dd' | 'ssh cat'
type PlainWire = 'tcp' | 'tls1.2' | 'tls1.3'

const MATCHES: readonly Match[] = [
  { transport: 'nbd', yardstick: 'tcp', goal: 0.6 },
  { transport: 'nbdssl', yardstick: 'tls1.2', goal: 0.6 },
  { transport: 'https', yardstick: 'tls1.3', goal: 0.6 },
  { transport: 'ssh', yardstick: 'ssh cat', goal: 0.6 },
  { transport: 'san', yardstick: 'dd', goal: 0.8 },
]
/** Reading a file takes a tenth of a second a GiB, too little to measure: so often in a row, by either. */
const FILE_PASSES = 10

const scenario = {
  name: 'bench',
  taskMs: 0,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [{ name: 'ds', type: 'VMFS6' }],
      vms: [
        {
          name: 'bench',
          power: 'poweredOff',
          tools: 'notInstalled',
          disks: Array.from({ length: DISKS }, () => ({ size, thin: false, records: false })),
        },
      ],
    },
  ],
}

/** Incompressible: neither a compressor nor a look for zeros has anything to gain. On the disk when it returns: the kernel would write it there meanwhile. */
function fill(path: string, seed: string): void {
  const random = seededRandom(seed)
  const file = openSync(path, 'r+')
  for (let at = 0; at < size; at += 4 * MIB) writeSync(file, random.bytes(Math.min(4 * MIB, size - at)), 0, undefined, at)
  fsyncSync(file)
  closeSync(file)
}

/** Every process of ours and of the yardsticks keeps its heap as the command does. */
const node = (name: string, ...args: readonly string[]): string[] => [
  '--require',
  join(import.meta.dirname, '..', 'scripts', 'heap.cjs'),
  join(import.meta.dirname, name),
  ...args,
]
const profiled = (who: string): readonly string[] =>
  values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`, `--cpu-prof-name=${who}-${Date.now()}.cpuprofile`]
const costOf = (output: string): ReadCost => JSON.parse(output.trim().split('\n').at(-1) ?? '') as ReadCost

async function readBy(lab: LabProcess, transport: string, disks: number): Promise<ReadCost> {
  const args = [
    ...profiled(transport),
    ...node(
      'read-transport.ts',
      transport,
      'bench',
      String(disks),
      String(size),
      String(lab.pid),
      String(transport === 'san' ? FILE_PASSES : 1),
    ),
  ]
  const { output } = await measure(process.execPath, args, { ...lab.connection, NODE_COMPILE_CACHE: join(work, 'compiled') })
  return costOf(output)
}

/** One file over a connection of its own, from a server that lives through the whole benchmark as the lab does. */
class PlainServer implements AsyncDisposable {
  readonly port: number
  readonly pid: number
  readonly #child: ChildProcess

  private constructor(child: ChildProcess, port: number) {
    this.#child = child
    this.pid = child.pid ?? 0
    this.port = port
  }

  static async start(wire: PlainWire, file: string, identity: readonly string[]): Promise<PlainServer> {
    const child = spawn(process.execPath, node('plain-copy.ts', 'serve', wire, file, ...identity), {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [port] = (await once(child.stdout, 'data')) as [Buffer]
    return new PlainServer(child, Number(port.toString()))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    await gone
  }
}

const speed = (costs: readonly ReadCost[]): number => median(costs.map((cost) => cost.bytes / cost.seconds)) / 1e6
/** Share of the time, median. */
const share = (costs: readonly ReadCost[], of: 'reader' | 'server', what: keyof Effort): number =>
  median(costs.map((cost) => (what === 'busy' ? Math.min(1, cost[of].busy / cost.seconds) : cost[of].cpu / cost.seconds)))
const show = (what: string, costs: readonly ReadCost[]): string => {
  const side = (of: 'reader' | 'server'): string =>
    `${of} ${share(costs, of, 'cpu').toFixed(2)} cores, busy ${Math.round(share(costs, of, 'busy') * 100)} %`
  return `${what.padEnd(18)} ${String(Math.round(speed(costs))).padStart(6)} MB/s   ${side('reader')}   ${side('server')}`
}

/** The OpenSSH client with its defaults, running `cat` at a real sshd; what it takes to log in is taken off. */
async function sshCat({ port, user, keyFile, knownHosts }: OpenSshd, file: string): Promise<ReadCost> {
  const ssh = (command: string): Promise<Cost> => {
    const options = ['-F', 'none', '-o', `UserKnownHostsFile=${knownHosts}`, '-o', 'BatchMode=yes', '-i', keyFile, '-p', String(port)]
    return measure('sh', ['-c', 'exec ssh "$@" >/dev/null', 'sh', ...options, `${user}@127.0.0.1`, command])
  }
  const [login, copy] = [await ssh('true'), await ssh(`cat '${file}'`)]
  const cpu = copy.cpuSeconds - login.cpuSeconds
  return { bytes: size, seconds: copy.wallSeconds - login.wallSeconds, reader: { cpu, busy: cpu }, server: NO_EFFORT }
}

async function bench(): Promise<void> {
  const scenarioFile = join(work, 'scenario.json')
  writeFileSync(scenarioFile, JSON.stringify(scenario))
  await using lab = await LabProcess.start(
    join(work, 'lab'),
    scenarioFile,
    values.profile === undefined ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${values.profile}` },
  )
  const folder = join(lab.ready.datastores['ds'] ?? '', 'bench')
  const flats = Array.from({ length: DISKS }, (_none, index) => join(folder, `bench${index === 0 ? '' : `_${index}`}-flat.vmdk`))
  for (const [index, flat] of flats.entries()) fill(flat, `disk ${index}`)
  const [flat = ''] = flats
  // The certificate the lab shows, so that both sides agree on the same cipher.
  const identity = ['server.key', 'server.pem'].map((file) => join(work, 'lab', 'tls-esxi', file))
  await using stack = new AsyncDisposableStack()
  const plainFetch = async (wire: PlainWire): Promise<() => Promise<ReadCost>> => {
    const server = stack.use(await PlainServer.start(wire, flat, identity))
    const args = node('plain-copy.ts', 'fetch', wire, String(server.port), String(size), String(server.pid))
    return async () => costOf((await measure(process.execPath, args)).output)
  }
  const program = peer('sshd')
  const sshd = program === undefined ? undefined : stack.use(await startSshd(program))
  const yardsticks: Readonly<Record<Yardstick, () => Promise<ReadCost>>> = {
    tcp: await plainFetch('tcp'),
    'tls1.2': await plainFetch('tls1.2'),
    'tls1.3': await plainFetch('tls1.3'),
    dd: async () => {
      // dd's own account: starting a process would be part of ours.
      const script = `LC_ALL=C; export LC_ALL; for pass in $(seq ${FILE_PASSES}); do dd if="$0" of=/dev/null bs=1M 2>&1; done`
      const { cpuSeconds, output } = await measure('sh', ['-c', script, flat])
      const seconds = [...output.matchAll(/copied, ([\d.e-]+) s/g)].reduce((sum, [, each]) => sum + Number(each), 0)
      return { bytes: size * FILE_PASSES, seconds, reader: { cpu: cpuSeconds, busy: cpuSeconds }, server: NO_EFFORT }
    },
    'ssh cat': () => (sshd === undefined ? Promise.reject(new Error('there is no sshd')) : sshCat(sshd, flat)),
  }

  const readOurs = async (transport: string, count: number): Promise<ReadCost> => {
    if (transport !== 'ssh') return readBy(lab, transport, count)
    if (sshd === undefined) throw new Error('there is no sshd')
    const server = readFileSync(join(sshd.directory, 'pid'), 'latin1').trim()
    const where = [String(sshd.port), sshd.user, sshd.keyFile, sshd.fingerprint, server]
    const args = [...profiled('ssh'), ...node('read-ssh.ts', ...where, String(size), ...flats.slice(0, count))]
    return costOf((await measure(process.execPath, args)).output)
  }
  const matches = MATCHES.filter(
    ({ transport }) =>
      (transport !== 'ssh' || sshd !== undefined) && (values.only === undefined || values.only.split(',').includes(transport)),
  )
  if (sshd === undefined) console.log('ssh is not measured: this machine has no sshd (scripts/install-peers.sh brings it)')
  const plain = new Map<Yardstick, ReadCost[]>()
  const ours = new Map<string, ReadCost[]>()
  const add = <K>(to: Map<K, ReadCost[]>, key: K, cost: ReadCost): void => void to.set(key, [...(to.get(key) ?? []), cost])
  console.log(
    `${DISKS} disks of ${size / MIB} MiB, incompressible, so many MiB read in all; ${rounds} rounds in turns, medians, warm cache`,
  )
  for (let round = 0; round < rounds; round++) {
    for (const { transport, yardstick } of round % 2 === 0 ? matches : matches.toReversed()) {
      const turns = [
        async () => add(plain, yardstick, await yardsticks[yardstick]()),
        ...COUNTS.map((count) => async () => add(ours, `${transport} ${count}`, await readOurs(transport, count))),
      ]
      for (const turn of round % 2 === 0 ? turns : turns.toReversed()) await turn()
    }
  }
  let missed = false
  const judge = (met: boolean, sentence: string): void => {
    console.log(`${met ? 'met   ' : 'MISSED'} ${sentence}`)
    missed ||= !met
  }
  for (const { transport, yardstick, goal } of matches) {
    const base = plain.get(yardstick) ?? []
    const costs = (count: number): readonly ReadCost[] => ours.get(`${transport} ${count}`) ?? []
    console.log(show(yardstick, base))
    for (const count of COUNTS) console.log(show(`${transport}, ${count} disk${count === 1 ? '' : 's'}`, costs(count)))
    const ratio = speed(costs(1)) / speed(base)
    judge(ratio >= goal, `${transport} reaches ${Math.round(ratio * 100)} % of ${yardstick} (goal ${goal * 100} %)`)
    const growth = speed(costs(DISKS)) / speed(costs(1))
    const all = costs(DISKS)
    const fullest = Math.max(...(['reader', 'server'] as const).map((of) => Math.max(share(all, of, 'busy'), share(all, of, 'cpu'))))
    judge(
      fullest >= FULL || growth >= DISKS * 0.75,
      `${transport}: ${DISKS} disks are ${growth.toFixed(2)} times as fast as one, and the busier side is busy ${Math.round(fullest * 100)} % of the time (goal: faster until a core is full)`,
    )
  }
  console.log(`load ${readFileSync('/proc/loadavg', 'latin1').split(' ').slice(0, 3).join(' ')}`)
  if (missed) process.exitCode = 1
}

try {
  await bench()
} finally {
  rmSync(work, { recursive: true, force: true })
}
