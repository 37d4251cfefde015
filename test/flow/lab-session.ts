import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { main } from '../../src/cli/main.ts'
import { createIds, MIB, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openSqliteJournal, systemProcesses } from '../../src/journal/index.ts'
import { type FaultRule, type Lab, type LabOptions, startLab } from '../../src/lab/index.ts'
import { openState } from '../../src/state/index.ts'
import { connectVsphere, type Vsphere } from '../../src/vsphere/index.ts'
import { cheapenKey } from '../cheap-key.ts'
import { fastDirectory } from '../fast-directory.ts'

// Documents of --json are read by tests as they stand; each field is asserted where it is used.
// oxlint-disable-next-line typescript/no-explicit-any
export type Json = any

export type CommandResult = { readonly exit: number; readonly out: string; readonly err: string; readonly json: () => Json }

/** A lab, a repository and a state directory in one temporary place, and the `vcb` command with all of them set. */
export type LabSession = AsyncDisposable & {
  readonly lab: Lab
  readonly directory: string
  readonly repository: string
  readonly repositoryPassword: string
  readonly environment: Record<string, string>
  /** Runs `vcb` in this process. */
  vcb(...argv: readonly string[]): Promise<CommandResult>
  /** The same with other environment variables. */
  vcbWith(environment: Readonly<Record<string, string | undefined>>, ...argv: readonly string[]): Promise<CommandResult>
  /** `vcb … --json`, which must end with `exit`; the parsed document. */
  json(argv: readonly string[], exit?: number): Promise<Json>
  /** A session of the agent's own at one endpoint of the lab; closed with this one. */
  connect(kind?: 'vcenter' | 'esxi'): Promise<Vsphere>
  /** Works while a fault rule is in force. */
  faulty<T>(rule: FaultRule, work: () => Promise<T>): Promise<T>
  /** SHA-256 of each disk of a VM by its label, as the lab took it when the last snapshot was made (scenario `recordDigests`). */
  frozenDigests(vm: string): Promise<ReadonlyMap<string, string>>
  /** Restores a point to a directory and compares every disk with what the guest had when its snapshot, the VM's last, was made. */
  expectRight(vm: string, point: string): Promise<void>
  /** Fails when anything of ours is left: snapshot, lease, lock, frozen guest, open job, temporary file. */
  expectClean(): Promise<void>
}

/** In memory where there is room (`fastDirectory`), or in `place`: for those to whom shared memory is not shown. */
export async function openLabSession(options: Partial<LabOptions> = {}, place?: string): Promise<LabSession> {
  await using stack = new AsyncDisposableStack()
  const directory = place === undefined ? await fastDirectory('vcb-flow-') : await mkdtemp(join(place, 'vcb-flow-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const lab = stack.use(await startLab({ directory: join(directory, 'lab'), ...options }))
  const repository = join(directory, 'repo')
  const passwordFile = join(directory, 'repo-password')
  const repositoryPassword = 'correct horse battery staple'
  await writeFile(passwordFile, `${repositoryPassword}\n`, { mode: 0o600 })
  const environment: Record<string, string> = {
    VCB_VCENTER: lab.endpoints.vcenter.url,
    VCB_THUMBPRINT: lab.endpoints.vcenter.thumbprint,
    VCB_USER: lab.user,
    VCB_PASSWORD_FILE: lab.passwordFile,
    VCB_REPO: repository,
    VCB_REPO_PASSWORD_FILE: passwordFile,
    VCB_STATE_DIR: join(directory, 'state'),
    VCB_DATASTORES: Object.entries(lab.datastores)
      .map(([name, path]) => `${name}=${path}`)
      .join(','),
    VCB_LOG_LEVEL: 'error',
    VCB_LOG_FILE: join(directory, 'vcb.log'),
  }
  let running = 0
  const vcbWith = async (changed: Readonly<Record<string, string | undefined>>, ...argv: readonly string[]): Promise<CommandResult> => {
    let out = ''
    let err = ''
    running++
    const its = { ...environment, ...changed }
    const exit = await main(argv, {
      environment: its,
      out: (text) => {
        out += text
      },
      err: (text) => {
        err += text
      },
      interactive: false,
      signal: new AbortController().signal,
    })
    running--
    // Every command after it opens the repository once more.
    if (running === 0 && (argv[0] === 'init' || argv.includes('--init')) && existsSync(join(repository, 'config')))
      await cheapenKey(repository, (await readFile(its['VCB_REPO_PASSWORD_FILE'] ?? passwordFile, 'utf8')).trim())
    return { exit, out, err, json: () => JSON.parse(out) }
  }
  const json = async (argv: readonly string[], exit = 0): Promise<Json> => {
    const result = await vcbWith({}, ...argv, '--json')
    expect({ exit: result.exit, out: result.exit === exit ? '' : result.out, err: result.err }).toEqual({ exit, out: '', err: '' })
    return result.json()
  }
  const frozenDigests = async (vm: string): Promise<ReadonlyMap<string, string>> => {
    const taken = (await lab.control.digestsAtSnapshot(vm)).at(-1)
    return new Map((taken?.disks ?? []).map((disk) => [disk.label, disk.sha256]))
  }
  const password = new Secret((await readFile(lab.passwordFile, 'utf8')).trim())
  let restores = 0
  const resources = stack.move()
  return {
    lab,
    directory,
    repository,
    repositoryPassword,
    environment,
    vcbWith,
    vcb: (...argv) => vcbWith({}, ...argv),
    json,
    connect: async (kind = 'vcenter') => {
      const { url, thumbprint } = lab.endpoints[kind]
      return resources.use(
        await connectVsphere({ url, user: lab.user, password, trust: { thumbprint }, clock: systemClock, log: silentLog }),
      )
    },
    faulty: async (rule, work) => {
      const id = await lab.control.fault(rule)
      try {
        return await work()
      } finally {
        await lab.control.clearFaults(id)
      }
    },
    frozenDigests,
    expectRight: async (vm, point) => {
      const target = join(directory, 'out', `${vm}-${++restores}`)
      const restored = await json(['restore', point, '--to-dir', target])
      const wanted = await frozenDigests(vm)
      expect(restored.disks).toHaveLength(wanted.size)
      for (const disk of restored.disks)
        expect([disk.label, await digestOfFile(join(target, disk.file.replace(/\.vmdk$/, '-flat.vmdk')))]).toEqual([
          disk.label,
          wanted.get(disk.label),
        ])
    },
    expectClean: () => expectClean(lab, directory, environment),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}

async function expectClean(lab: Lab, directory: string, environment: Record<string, string>): Promise<void> {
  const state = await lab.control.state()
  const left = state.vms.flatMap((vm) => [
    ...vm.snapshots.filter((snapshot) => snapshot.name.includes('vcb-proxy')).map((snapshot) => `${vm.name}: snapshot ${snapshot.name}`),
    ...(vm.frozen ? [`${vm.name}: frozen`] : []),
    ...vm.disabledMethods.map((method) => `${vm.name}: ${method.method} disabled`),
    ...(vm.consolidationNeeded ? [`${vm.name}: needs consolidation`] : []),
    ...(vm.name.includes('being restored') ? [`${vm.name}: half restored`] : []),
  ])
  left.push(
    ...state.leases
      .filter((lease) => lease.state === 'ready' || lease.state === 'initializing')
      .map((lease) => `lease ${lease.id} of ${lease.vm}`),
  )
  left.push(...state.tasks.filter((task) => task.state === 'running' || task.state === 'queued').map((task) => `task ${task.name}`))
  await using database = await openState(join(environment['VCB_STATE_DIR'] ?? '', 'state.sqlite'))
  const journal = await openSqliteJournal({ state: database, clock: systemClock, ids: createIds(), processes: systemProcesses })
  for (const job of await journal.unfinished()) left.push(`job ${job.kind} with ${job.claims.map((claim) => claim.kind).join(', ')}`)
  for (const name of await readdir(directory, { recursive: true })) {
    if (name.startsWith('lab/')) continue
    // borg's own: what it leaves in its repository when it is ended while it waits for its lock. Empty, and in nobody's way.
    if (/^borg\/lock\.exclusive\.\w+\.tmp$/.test(name)) continue
    if (name.endsWith('.tmp') || name.includes('.partial') || /^repo\/locks\/./.test(name)) left.push(`file ${name}`)
  }
  expect(left).toEqual([])
}

/** Text of the run's log, for messages of failing tests. */
export const readLog = (session: LabSession): Promise<string> => readFile(join(session.directory, 'vcb.log'), 'utf8')

/** SHA-256 of a file. */
export async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path, { highWaterMark: MIB })) hash.update(piece as Buffer)
  return hash.digest('hex')
}
