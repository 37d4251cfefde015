import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { main } from '../../src/cli/main.ts'
import { systemClock } from '../../src/core/index.ts'
import { openSqliteJournal, systemProcesses } from '../../src/journal/index.ts'
import { createIds } from '../../src/core/index.ts'
import { type Lab, type LabOptions, startLab } from '../../src/lab/index.ts'
import { openState } from '../../src/state/index.ts'

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
  /** Fails when anything of ours is left: snapshot, lease, lock, frozen guest, open job, temporary file. */
  expectClean(): Promise<void>
}

export async function openLabSession(options: Partial<LabOptions> = {}): Promise<LabSession> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-flow-'))
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
  const vcbWith = async (changed: Readonly<Record<string, string | undefined>>, ...argv: readonly string[]): Promise<CommandResult> => {
    let out = ''
    let err = ''
    const exit = await main(argv, {
      environment: { ...environment, ...changed },
      out: (text) => {
        out += text
      },
      err: (text) => {
        err += text
      },
      interactive: false,
      signal: new AbortController().signal,
    })
    return { exit, out, err, json: () => JSON.parse(out) }
  }
  const resources = stack.move()
  return {
    lab,
    directory,
    repository,
    repositoryPassword,
    environment,
    vcbWith,
    vcb: (...argv) => vcbWith({}, ...argv),
    json: async (argv, exit = 0) => {
      const result = await vcbWith({}, ...argv, '--json')
      expect({ exit: result.exit, out: result.exit === exit ? '' : result.out, err: result.err }).toEqual({ exit, out: '', err: '' })
      return result.json()
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
    if (name.endsWith('.tmp') || name.includes('.partial') || /^repo\/locks\/./.test(name)) left.push(`file ${name}`)
  }
  expect(left).toEqual([])
}

/** Text of the run's log, for messages of failing tests. */
export const readLog = (session: LabSession): Promise<string> => readFile(join(session.directory, 'vcb.log'), 'utf8')
