import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type AgentControl,
  type AgentEvent,
  type AgentStatusView,
  type Api,
  type ApiOptions,
  type CanceledView,
  type HistoryQuery,
  type JobView,
  type MetricFacts,
  openApi,
  type PlanView,
  type PointQueryView,
  type Role,
  type RunRequest,
  type StartedRuns,
  Tokens,
} from '../src/api/index.ts'
import {
  type Abortable,
  AgentError,
  type ConsistencyLevel,
  type Log,
  type PointId,
  type PointSummary,
  type RunId,
  type RunRecord,
  silentLog,
  systemClock,
  type VmRef,
} from '../src/core/index.ts'
import { loadCertificate } from '../src/lab/wire/certificate.ts'

export const vmRef = (name: string): VmRef => ({
  moref: `vm-${name}`,
  name,
  instanceUuid: `5000-${name}`,
  biosUuid: `4200-${name}`,
  vcenterUuid: 'vc-1',
  path: `/DC/vm/${name}`,
})

const BEGAN = '2026-11-26T01:00:00.000Z'

/** A small agent in memory that keeps what it is told: a queue that nothing empties, two jobs, a history. */
export class MemoryControl implements AgentControl {
  readonly orders: string[] = []
  readonly waiting: { run: string; vm: VmRef; since: string }[] = []
  readonly records: RunRecord[] = []
  draining = false
  /** Thrown by the next call that changes something. */
  failWith: Error | undefined
  /** How long `plan` takes, ms. */
  planMs = 0
  /** How many streams are taken from it. */
  taken = 0
  readonly #listeners = new Set<(event: AgentEvent) => void>()
  #runs = 0

  status(): Promise<AgentStatusView> {
    return Promise.resolve({
      agent: 'a1b2',
      version: '0.1.0',
      pid: process.pid,
      since: BEGAN,
      draining: this.draining,
      waiting: this.waiting.map((each) => ({ ...each, reason: 'asked for' })),
      running: [],
      journal: { running: [], leases: [], leftOver: [], limits: [], finished: [] },
    })
  }

  jobs(): Promise<readonly JobView[]> {
    const job = { select: ['*'], repository: 'default', copyTo: [], timeZone: 'UTC', cron: ['0 22 * * *'], windows: [], priority: 0 }
    return Promise.resolve([
      { name: 'nightly', ...job, rpoMs: 86_400_000 },
      { name: 'weekly', ...job },
    ])
  }

  history({ job, vm, result, limit = Number.POSITIVE_INFINITY }: HistoryQuery): Promise<readonly RunRecord[]> {
    const fits = (record: RunRecord): boolean =>
      (job === undefined || record.job === job) &&
      (vm === undefined || record.vm.name === vm) &&
      (result === undefined || record.result === result)
    return Promise.resolve(this.records.filter(fits).slice(0, limit))
  }

  async plan({ from, to, job }: { from: Date; to: Date; job?: string | undefined }, options?: Abortable): Promise<PlanView> {
    if (this.planMs > 0) await systemClock.sleep(this.planMs, options)
    if (job !== undefined && job !== 'nightly') throw new AgentError('NOT_FOUND', `There is no job named ${job}.`, { subject: job })
    return { from: from.toISOString(), to: to.toISOString(), runs: [], misses: [], overruns: [], left: [], empty: [], assumed: [] }
  }

  points({ vm, limit }: PointQueryView): Promise<readonly PointSummary[]> {
    const point = (vmName: string): PointSummary => ({
      id: `point-of-${vmName}` as PointId,
      repository: 'restic:/srv/repo',
      time: BEGAN,
      vmName,
      instanceUuid: `5000-${vmName}`,
      vcenterUuid: 'vc-1',
      mode: 'full',
      run: 'run-0' as RunId,
      consistency: 'crash' satisfies ConsistencyLevel,
      totalBytes: 3,
      readBytes: 2,
      storedBytes: 1,
      notProtected: 0,
    })
    return Promise.resolve(
      ['web01', 'db01']
        .filter((name) => vm === undefined || name === vm)
        .map(point)
        .slice(0, limit),
    )
  }

  run(request: RunRequest, by: { readonly name: string }): Promise<StartedRuns> {
    return this.#order(`run ${JSON.stringify(request)} by ${by.name}`, () => {
      if (this.draining) throw new AgentError('CONFLICT', 'The agent is drained: it begins nothing new.')
      if (request.job !== undefined && request.job !== 'nightly') throw new AgentError('NOT_FOUND', `There is no job named ${request.job}.`)
      const vm = vmRef(request.select?.[0] ?? 'web01')
      const run = `run-${++this.#runs}`
      if (this.waiting.length < 1000) this.waiting.push({ run, vm, since: BEGAN })
      this.tell({ type: 'waiting', at: BEGAN, run, vm })
      return { runs: [{ run, vm }] }
    })
  }

  cancel(target: string, by: { readonly name: string }): Promise<readonly CanceledView[]> {
    return this.#order(`cancel ${target} by ${by.name}`, () => {
      const found = this.waiting.filter(({ run, vm }) => run === target || vm.name === target)
      if (found.length === 0) throw new AgentError('NOT_FOUND', `No job, run or VM of a running job is named ${target}.`)
      return found.map(({ run, vm }) => ({ id: run, kind: 'backup', subject: vm.name, ended: true }))
    })
  }

  drain(on: boolean, by: { readonly name: string }): Promise<void> {
    return this.#order(`drain ${on} by ${by.name}`, () => {
      this.draining = on
    })
  }

  reload(by: { readonly name: string }): Promise<{ readonly changed: readonly string[] }> {
    return this.#order(`reload by ${by.name}`, () => ({ changed: ['jobs'] }))
  }

  async *events({ signal }: Abortable): AsyncIterable<AgentEvent> {
    const queue: AgentEvent[] = []
    let wake = (): void => undefined
    const listener = (event: AgentEvent): void => {
      queue.push(event)
      wake()
    }
    this.#listeners.add(listener)
    this.taken++
    try {
      for (;;) {
        if (signal?.aborted === true) return
        const next = queue.shift()
        if (next !== undefined) {
          yield next
          continue
        }
        const { promise, resolve } = Promise.withResolvers<void>()
        wake = resolve
        signal?.addEventListener('abort', () => resolve(), { once: true })
        await promise
      }
    } finally {
      this.#listeners.delete(listener)
    }
  }

  facts(): Promise<MetricFacts> {
    return Promise.resolve({
      vms: [],
      jobs: [],
      queue: { waiting: this.waiting.length, running: 0 },
      limits: [],
      repositories: [],
      draining: this.draining,
    })
  }

  tell(event: AgentEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  async #order<T>(what: string, work: () => T): Promise<T> {
    if (this.orders.length < 10_000) this.orders.push(what)
    const { failWith } = this
    if (failWith !== undefined) {
      this.failWith = undefined
      throw failWith
    }
    return work()
  }
}

export type ApiWorld = AsyncDisposable & {
  readonly control: MemoryControl
  readonly api: Api
  /** The state directory. */
  readonly directory: string
  readonly socket: string
  readonly url: string
  readonly caFile: string
  readonly thumbprint: string
  readonly tokens: Tokens
  /** What the log was told, as text. */
  readonly logged: string[]
  /** A new token of this role. */
  token(role: Role, name?: string, expiresAt?: Date): Promise<string>
}

/** The control API on a socket and over TLS, before a `MemoryControl`, in a directory that is gone afterwards. */
export async function openApiWorld(options: Partial<ApiOptions> = {}): Promise<ApiWorld> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-api-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const certificates = join(directory, 'tls')
  const { thumbprints } = await loadCertificate(certificates, 'agent', systemClock.now())
  const control = new MemoryControl()
  const logged: string[] = []
  const note = (message: string, fields?: object): void => void logged.push(`${message} ${JSON.stringify(fields ?? {})}`)
  const log: Log = { ...silentLog, info: note, warn: note, error: note }
  const base = { clock: systemClock, log, random: randomBytes, directory }
  const socket = join(directory, 'agent.sock')
  const tls = { certificate: join(certificates, 'server.pem'), key: join(certificates, 'server.key') }
  const api = stack.use(
    await openApi({
      ...base,
      control,
      version: '0.1.0',
      socket: { path: socket, group: undefined },
      tcp: { host: '127.0.0.1', port: 0, tls },
      ...options,
    }),
  )
  const tokens = new Tokens(base)
  const moved = stack.move()
  return {
    control,
    api,
    directory,
    socket,
    url: `https://127.0.0.1:${api.port}`,
    caFile: tls.certificate,
    thumbprint: thumbprints.sha256,
    tokens,
    logged,
    token: async (role, name = role, expiresAt) => (await tokens.add({ name, role, expiresAt, by: 'test' })).reveal(),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  }
}
