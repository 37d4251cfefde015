import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { styleText } from 'node:util'
import { formatBytes } from '../src/core/index.ts'
import type { DiskDigest, LabState, SnapshotDigests } from '../src/lab/index.ts'

/*
 * The main job from end to end, with the real command against a lab of its own: a weekly full while the guests write, a nightly incremental, a
 * restore to another host and datastore, and the proof. Everything happens in a temporary directory; exit status 1 when anything is not as it
 * should be.
 */
const VMS = ['web01', 'db01', 'win01']
const COMMAND = join(import.meta.dirname, 'vcb.cjs')
const SCENARIO = join(import.meta.dirname, 'demo-lab.yaml')
/** What each guest holds, and what of it changes until the next night: percent of one disk, in pieces of 4 MiB, as files lie. */
const DATA = [
  { vm: 'web01', disk: '2001', held: '12', changed: '2' },
  { vm: 'db01', disk: '2016', held: '25', changed: '4' },
  { vm: 'win01', disk: '16000', held: '25', changed: '5' },
] as const

type Disk = {
  readonly label: string
  readonly capacityBytes: number
  readonly readBytes: number
  readonly storedBytes: number
  readonly transport: string
  readonly mode: string
}
type VmOutcome = {
  readonly ok: boolean
  readonly vm: { readonly name: string }
  readonly point: string
  readonly time: string
  readonly mode: string
  readonly consistency: string
  readonly snapshotLifetimeMs: number
  readonly disks: readonly Disk[]
  readonly error?: { readonly message: string }
}
type Run = { readonly vms: readonly VmOutcome[] }

async function demo(): Promise<boolean> {
  const started = performance.now()
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-demo-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))

  step('Start the lab: a miniature vCenter with real VMDK files and guests that write')
  const lab = await startLab(join(directory, 'lab'))
  stack.defer(lab.stop)
  const repositoryPassword = join(directory, 'repo-password')
  await writeFile(repositoryPassword, 'demo only\n', { mode: 0o600 })
  const environment = {
    VCB_VCENTER: lab.ready.url,
    VCB_THUMBPRINT: lab.ready.thumbprint,
    VCB_USER: lab.ready.user,
    VCB_PASSWORD_FILE: lab.ready.passwordFile,
    VCB_DATASTORES: Object.entries(lab.ready.datastores)
      .map(([name, path]) => `${name}=${path}`)
      .join(','),
    VCB_REPO: join(directory, 'repo'),
    VCB_REPO_PASSWORD_FILE: repositoryPassword,
    VCB_STATE_DIR: join(directory, 'state'),
    VCB_LAB_DIR: lab.ready.directory,
  }
  const vcb = async (...argv: readonly string[]): Promise<string> => {
    console.log(styleText('cyan', `\n$ vcb ${argv.map((word) => (/[^\w@./:=-]/.test(word) ? `'${word}'` : word)).join(' ')}`))
    const out = await run(argv, environment)
    process.stdout.write(out)
    return out
  }
  const quietly = async <T>(...argv: readonly string[]): Promise<T> => JSON.parse(await run([...argv, '--json'], environment))
  const backup = async (...argv: readonly string[]): Promise<Run> => {
    console.log(styleText('cyan', `\n$ vcb backup ${argv.join(' ')}`))
    const result = await quietly<Run>('backup', ...argv)
    for (const vm of result.vms) console.log(vm.ok ? describe(vm) : `  ${vm.vm.name}  FAILED  ${vm.error?.message}`)
    return result
  }

  for (const { vm, disk, held } of DATA) await quietly('lab', 'write', vm, '--disk', disk, '--percent', held, '--unit', '4194304')
  await vcb('vms', ...VMS)
  step('Weekly full of three running VMs: quiesce, snapshot, read from shared storage, commit the redo logs')
  const full = await backup(VMS.join(','), '--mode', 'full', '--init')
  step('The guests go on writing; then the nightly incremental')
  for (const { vm, disk, changed } of DATA) await quietly('lab', 'write', vm, '--disk', disk, '--percent', changed, '--unit', '4194304')
  const nightly = await backup(VMS.join(','))
  await vcb('points')

  step("Restore last night's db01 as a new VM on another host and datastore")
  await vcb('restore', 'db01@latest', '--to-vcenter', '--name', 'db01-restored', '--host', 'esx3.lab', '--to-datastore', 'restore1')

  step('Proof')
  const point = nightly.vms.find((vm) => vm.vm.name === 'db01')
  const recorded = (await quietly<{ digests: readonly SnapshotDigests[] }>('lab', 'sha256', 'db01', '--at-snapshots')).digests.find(
    (each) => Date.parse(each.createdAt) === Date.parse(point?.time ?? ''),
  )
  const restored = (await quietly<{ disks: readonly DiskDigest[] }>('lab', 'sha256', 'db01-restored')).disks
  const equal = restored.filter((disk) => recorded?.disks.some((each) => each.label === disk.label && each.sha256 === disk.sha256))
  const check = await quietly<{ problems: readonly unknown[] }>('check')
  const state = await quietly<LabState>('lab', 'state')
  const left =
    state.vms.flatMap((vm) => vm.snapshots.filter((snapshot) => snapshot.name.includes('vcb-proxy'))).length +
    state.vms.filter((vm) => vm.consolidationNeeded || vm.frozen || vm.disabledMethods.length > 0).length +
    state.leases.filter((lease) => lease.state === 'ready').length
  const held = (await quietly<{ recovered: readonly unknown[]; untouched: readonly unknown[] }>('recover')).recovered.length

  const outcomes = [...full.vms, ...nightly.vms]
  const sum = (vms: readonly VmOutcome[], of: (disk: Disk) => number): number =>
    vms.flatMap((vm) => vm.disks ?? []).reduce((total, disk) => total + of(disk), 0)
  const lives = outcomes.map((vm) => vm.snapshotLifetimeMs)
  const rows: readonly (readonly [string, string, boolean])[] = [
    ['backups', `${outcomes.filter((vm) => vm.ok).length} of ${outcomes.length} restore points complete`, outcomes.every((vm) => vm.ok)],
    [
      'full',
      `read ${formatBytes(sum(full.vms, (disk) => disk.readBytes))} of ${formatBytes(sum(full.vms, (disk) => disk.capacityBytes))}, stored ${formatBytes(sum(full.vms, (disk) => disk.storedBytes))}`,
      full.vms.every((vm) => vm.mode === 'full'),
    ],
    [
      'incremental',
      `read ${formatBytes(sum(nightly.vms, (disk) => disk.readBytes))}, stored ${formatBytes(sum(nightly.vms, (disk) => disk.storedBytes))}`,
      // Little changed since, so little is read, and stored in whole blocks.
      nightly.vms.every((vm) => vm.mode === 'incremental') &&
        sum(nightly.vms, (disk) => disk.readBytes) * 3 < sum(full.vms, (disk) => disk.readBytes) &&
        sum(nightly.vms, (disk) => disk.storedBytes) * 2 < sum(full.vms, (disk) => disk.storedBytes),
    ],
    ['consistency', [...new Set(outcomes.map((vm) => vm.consistency))].join(', '), outcomes.every((vm) => vm.consistency !== 'crash')],
    ['snapshots lived', `${(Math.min(...lives) / 1000).toFixed(1)} to ${(Math.max(...lives) / 1000).toFixed(1)} s`, true],
    [
      'restored disks',
      `${equal.length} of ${restored.length} equal the frozen disks by SHA-256`,
      restored.length > 0 && equal.length === restored.length,
    ],
    [
      'repository',
      check.problems.length === 0 ? 'every block read and verified' : `${check.problems.length} problems`,
      check.problems.length === 0,
    ],
    [
      'left behind',
      left + held === 0 ? 'nothing: no snapshot, no lease, no lock, no open job' : `${left} in vSphere, ${held} in the journal`,
      left + held === 0,
    ],
    ['time', `${((performance.now() - started) / 1000).toFixed(0)} s`, true],
  ]
  console.log('')
  for (const [name, value, ok] of rows) console.log(`  ${ok ? styleText('green', '✓') : styleText('red', '✗')} ${name.padEnd(16)} ${value}`)
  return rows.every(([, , ok]) => ok)
}

const step = (title: string): void => console.log(styleText('bold', `\n── ${title}`))

function describe(vm: VmOutcome): string {
  const sum = (of: (disk: Disk) => number): number => vm.disks.reduce((total, disk) => total + of(disk), 0)
  const transports = [...new Set(vm.disks.map((disk) => disk.transport))].join(', ')
  return (
    `  ${vm.vm.name.padEnd(8)} ${vm.mode.padEnd(12)} ${vm.consistency}-consistent, ${vm.disks.length} disks by ${transports}: ` +
    `read ${formatBytes(sum((disk) => disk.readBytes))} of ${formatBytes(sum((disk) => disk.capacityBytes))}, ` +
    `stored ${formatBytes(sum((disk) => disk.storedBytes))}, snapshot lived ${(vm.snapshotLifetimeMs / 1000).toFixed(1)} s`
  )
}

type Ready = {
  readonly url: string
  readonly thumbprint: string
  readonly user: string
  readonly passwordFile: string
  readonly directory: string
  readonly datastores: Readonly<Record<string, string>>
}

/** `vcb lab up` as a process of its own; its first line says how to reach it. */
async function startLab(directory: string): Promise<{ readonly ready: Ready; readonly stop: () => Promise<void> }> {
  const child = spawn(process.execPath, [COMMAND, 'lab', 'up', '--dir', directory, '--scenario', SCENARIO, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  child.stderr.pipe(process.stderr)
  for await (const line of createInterface({ input: child.stdout })) return { ready: JSON.parse(line), stop: () => stop(child) }
  throw new Error('the lab ended before it was ready')
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return
  const exited = once(child, 'exit')
  // What it says of being told to stop is no news here.
  child.stderr?.unpipe(process.stderr).resume()
  child.kill('SIGTERM')
  await exited
}

/** One `vcb` command; its standard output. Fails with what it said when it does not end with 0. */
async function run(argv: readonly string[], environment: Readonly<Record<string, string>>): Promise<string> {
  const child = spawn(process.execPath, [COMMAND, ...argv], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let out = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`vcb ${argv.join(' ')} ended with ${code}: ${out}`)
  return out
}

process.exitCode = (await demo()) ? 0 : 1
