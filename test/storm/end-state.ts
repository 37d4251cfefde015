import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { createIds, MIB, type PointSummary, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openSqliteJournal, systemProcesses } from '../../src/journal/index.ts'
import type { LabState, LabVmState, SnapshotDigests } from '../../src/lab/index.ts'
import { type BackupReader, openProvider } from '../../src/provider/index.ts'
import { openState } from '../../src/state/index.ts'
import { runCommand } from './command.ts'
import type { Findings } from './findings.ts'
import type { Place } from './place.ts'

/** What the lab's VMs were like before the first command. */
export type Before = { readonly vms: readonly LabVmState[]; readonly userSnapshots: ReadonlyMap<string, readonly string[]> }

/** Remembers what must be the same at the end: power, snapshots of users, and what these froze. */
export async function remember(place: Place): Promise<Before> {
  const { vms } = await place.lab.state()
  return { vms, userSnapshots: await frozenImages(place, vms) }
}

async function frozenImages(place: Place, vms: readonly LabVmState[]): Promise<ReadonlyMap<string, readonly string[]>> {
  const images = new Map<string, readonly string[]>()
  for (const vm of vms) {
    for (const { name, moref } of vm.snapshots) {
      const digests = await place.lab.sha256(vm.name, moref)
      images.set(`${vm.name}: ${name} (${moref})`, digests.map((disk) => `${disk.label} ${disk.sha256}`).sort())
    }
  }
  return images
}

/** Everything after a storm, with the lab up and its guests stopped: recovery, then the lab started anew, change no content and leave nothing. */
export async function checkEndState(place: Place, before: Before, findings: Findings): Promise<void> {
  for (const vm of before.vms) await place.lab.workload(vm.name, 0)
  const guests = await guestImages(place, before)
  const sameAs = (now: ReadonlyMap<string, string>, what: string): void =>
    findings.check(
      [...guests].filter(([disk, digest]) => now.get(disk) !== digest).map(([disk]) => `${what} changed the content of ${disk}`),
    )
  await checkRecovered(place, before, findings)
  sameAs(await guestImages(place, before), 'recovery')
  await place.lab.stop()
  await place.lab.up()
  sameAs(await guestImages(place, before), 'the start of the lab')
  await checkLab(place, before, findings)
}

/** Runs `vcb recover`, then looks for everything the agent may hold where it would be: lab, datastores, proxy, repository, journal. */
export async function checkRecovered(place: Place, before: Before, findings: Findings): Promise<void> {
  const recovered = await runCommand(['recover', '--json'], place.environment, { strikes: [], boundMs: 180_000 })
  findings.expect(recovered.exit === 0, () => `vcb recover ended with ${recovered.exit}: ${recovered.out}${recovered.err}`)
  await checkLab(place, before, findings)
  await checkProxy(place, findings)
  await checkJournal(place, findings)
}

async function guestImages(place: Place, before: Before): Promise<Map<string, string>> {
  const images = new Map<string, string>()
  for (const vm of before.vms) for (const disk of await place.lab.sha256(vm.name)) images.set(`${vm.name} ${disk.label}`, disk.sha256)
  return images
}

async function checkLab(place: Place, before: Before, findings: Findings): Promise<void> {
  const state = await place.lab.state()
  findings.check(leftInLab(state))
  for (const was of before.vms) {
    const now = state.vms.find((vm) => vm.moref === was.moref)
    findings.expect(now?.name === was.name && now.powerState === was.powerState, () => `${was.name} is ${now?.name} ${now?.powerState}`)
    const names = (vm: LabVmState | undefined): string => JSON.stringify(vm?.snapshots.map(({ name, moref }) => [name, moref]))
    findings.expect(names(now) === names(was), () => `${was.name} has the snapshots ${names(now)} and had ${names(was)}`)
    findings.check(
      (now?.disks ?? [])
        .filter((disk) => disk.chain.length !== was.snapshots.length + 1)
        .map((disk) => `${was.name}: ${disk.label} has the chain ${disk.chain.join(' ← ')}`),
    )
    const report = await place.lab.fsck(was.name)
    findings.expect(report.ok, () => `${was.name}: ${report.disks.flatMap((disk) => disk.problems).join('; ')}`)
  }
  const frozen = await frozenImages(place, state.vms)
  findings.check(
    [...before.userSnapshots]
      .filter(([name, images]) => JSON.stringify(frozen.get(name)) !== JSON.stringify(images))
      .map(([name]) => `${name} froze something else`),
  )
  findings.check(await leftOnDatastores(state))
}

function leftInLab(state: LabState): string[] {
  const running = new Set(state.vms.filter((vm) => vm.powerState === 'poweredOn').map((vm) => vm.name))
  return [
    ...state.vms.flatMap((vm) => [
      ...vm.snapshots.filter(({ name }) => name.includes('vcb-proxy')).map(({ name }) => `${vm.name}: snapshot ${name} is left`),
      ...(vm.frozen ? [`${vm.name} is frozen`] : []),
      ...vm.disabledMethods.map(({ method }) => `${vm.name}: ${method} is disabled`),
      ...(vm.consolidationNeeded ? [`${vm.name} needs consolidation`] : []),
      ...(/being restored|replaced by/.test(vm.name) ? [`${vm.name} is half restored`] : []),
    ]),
    ...state.leases
      .filter(({ state }) => state === 'ready' || state === 'initializing')
      .map(({ id, vm }) => `lease ${id} of ${vm} is open`),
    ...state.tasks
      .filter(({ state }) => state === 'running' || state === 'queued')
      .map(({ name, entity }) => `task ${name} runs on ${entity}`),
    ...state.locks
      .filter(({ holder, path }) => !running.has(holder) && ![...running].some((vm) => path.includes(` ${vm}/`)))
      .map(({ path, holder }) => `${path} is locked by ${holder}`),
  ]
}

/** Directories that are no VM's, and disk files that no chain of their VM names. */
async function leftOnDatastores(state: LabState): Promise<string[]> {
  const left: string[] = []
  const descriptors = new Set(state.vms.flatMap((vm) => vm.disks.flatMap((disk) => disk.chain)))
  const homes = new Set([...descriptors].map((path) => dirname(path)))
  for (const store of state.datastores) {
    for (const home of await readdir(store.directory)) {
      const path = `[${store.name}] ${home}`
      if (!homes.has(path)) {
        left.push(`${path} is no VM's`)
        continue
      }
      for (const name of await readdir(join(store.directory, home))) {
        const stem = /^(.*?)(?:-(?:flat|delta|sesparse|ctk))?\.vmdk$/.exec(name)?.[1]
        if (stem !== undefined && !descriptors.has(`${path}/${stem}.vmdk`)) left.push(`${path}/${name} belongs to no disk`)
        if (/\.(tmp|partial)$|~$/.test(name)) left.push(`${path}/${name} is temporary`)
      }
    }
  }
  return left
}

const REPOSITORY =
  /^(?:config|keys|data|index|snapshots|locks|(?:keys|index|snapshots)\/[0-9a-f]{64}|data\/[0-9a-f]{2}(?:\/[0-9a-f]{64})?)$/
/** The cache of an index is no leftover: derived, for the next command, and swept by it (docs/formats/index-cache.md). */
const STATE = /^(?:state\.sqlite(?:-wal|-shm)?|agent-id|cache(?:\/index(?:\/.+)?)?)$/

/** Files and processes on the proxy. A finished restore is the user's; anything else that is not named here is a leftover. */
async function checkProxy(place: Place, findings: Findings): Promise<void> {
  const list = (directory: string): Promise<readonly string[]> => readdir(directory, { recursive: true })
  findings.check((await list(place.repository)).filter((name) => !REPOSITORY.test(name)).map((name) => `the repository holds ${name}`))
  findings.check((await list(place.state)).filter((name) => !STATE.test(name)).map((name) => `the state directory holds ${name}`))
  findings.check((await list(place.temporary)).map((name) => `the temporary directory holds ${name}`))
  findings.check((await list(place.restores)).filter((name) => /partial|\.tmp/.test(name)).map((name) => `a restore left ${name}`))
  findings.check(await processesOf(place))
}

/** Processes that have the state directory in their environment: commands of this storm. */
async function processesOf(place: Place): Promise<string[]> {
  const found: string[] = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue
    try {
      const environment = await readFile(`/proc/${pid}/environ`, 'latin1')
      if (!environment.includes(`VCB_STATE_DIR=${place.state}\0`)) continue
      const command = (await readFile(`/proc/${pid}/cmdline`, 'latin1')).replaceAll('\0', ' ').trim()
      found.push(`process ${pid} runs still: ${command}`)
    } catch (error) {
      // Gone meanwhile, or somebody else's.
      if (!(error instanceof Error && 'code' in error && /^(ENOENT|ESRCH|EACCES|EPERM)$/.test(String(error.code)))) throw error
    }
  }
  return found
}

async function checkJournal(place: Place, findings: Findings): Promise<void> {
  await using database = await openState(join(place.state, 'state.sqlite'))
  const journal = await openSqliteJournal({ state: database, clock: systemClock, ids: createIds(), processes: systemProcesses })
  const open = await journal.unfinished()
  findings.check(
    open.map(
      (job) =>
        `the ${job.kind} job ${job.id} is open with ${job.claims.map(({ kind, keptReason }) => `${kind} (${keptReason ?? ''})`).join(', ')}`,
    ),
  )
}

export type PointCheck = { readonly points: readonly PointSummary[]; readonly wrongDigests: number }

/**
 * Every listed point is read whole, and its disks compared with what the lab recorded when the snapshot was made. `records`: of all VMs, by
 * name and moment.
 */
export async function checkPoints(place: Place, records: ReadonlyMap<string, SnapshotDigests>, findings: Findings): Promise<PointCheck> {
  await using provider = await openProvider(place.repository, {
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    hostname: 'storm',
    username: 'storm',
    pid: process.pid,
    password: new Secret(place.password),
  })
  const points: PointSummary[] = []
  let wrongDigests = 0
  const store = provider.points
  if (store === undefined) throw new Error('the repository cannot be read back')
  for await (const point of store.list()) points.push(point)
  for (const point of points) {
    await using reader = await store.open(point.id)
    const wrong = await differences(reader, records.get(`${point.vmName} ${point.time}`))
    wrongDigests += wrong.length
    findings.check(wrong.map((what) => `point ${point.id.slice(0, 8)} of ${point.vmName} at ${point.time}: ${what}`))
  }
  return { points, wrongDigests }
}

async function differences(reader: BackupReader, record: SnapshotDigests | undefined): Promise<string[]> {
  if (record === undefined) return ['the lab has no record of its snapshot']
  const wrong: string[] = []
  if (reader.manifest.disks.length !== record.disks.length) wrong.push(`${reader.manifest.disks.length} of ${record.disks.length} disks`)
  for (const disk of reader.manifest.disks) {
    const wanted = record.disks.find(({ key }) => key === disk.key)?.sha256
    if ((await digestOf(reader, disk.key, disk.capacityBytes)) !== wanted) wrong.push(`the content of ${disk.label} (${disk.mode})`)
  }
  return wrong
}

async function digestOf(reader: BackupReader, key: number, size: number): Promise<string> {
  await using source = await reader.disk(key)
  const hash = createHash('sha256')
  for (let at = 0; at < size; at += MIB) {
    const piece = new Uint8Array(Math.min(MIB, size - at))
    await source.read(at, piece)
    hash.update(piece)
  }
  return hash.digest('hex')
}

/** Stock restic's own opinion, data included, and its list of points. */
export async function checkWithRestic(place: Place, restic: string, points: readonly PointSummary[], findings: Findings): Promise<void> {
  const run = (...args: readonly string[]): Promise<{ readonly stdout: string; readonly stderr: string }> =>
    promisify(execFile)(
      restic,
      ['--repo', place.repository, '--password-file', join(place.directory, 'repo-password'), '--no-cache', ...args],
      {
        maxBuffer: 64 * MIB,
      },
    )
  findings.check((await readdir(join(place.repository, 'locks'))).map((name) => `the lock ${name} is left`))
  try {
    const { stdout, stderr } = await run('check', '--read-data')
    findings.expect(stdout.includes('no errors were found'), () => `restic check: ${stdout}${stderr}`)
    const listed: { id: string }[] = JSON.parse((await run('snapshots', '--json')).stdout) ?? []
    const missing = points.filter(({ id }) => !listed.some((each) => each.id === id))
    findings.expect(
      missing.length === 0 && listed.length === points.length,
      () => `${basename(restic)} lists ${listed.length} snapshots, vcb ${points.length}`,
    )
  } catch (error) {
    findings.check([`restic failed: ${error instanceof Error ? error.message : String(error)}`])
  }
}
