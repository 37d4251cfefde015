import {
  type Abortable,
  AgentError,
  type ClaimId,
  isAgentError,
  type Log,
  type Stage,
  type StageFacts,
  toAgentError,
  type VmConfig,
} from '../core/index.ts'
import { type Claims, LeftError } from '../journal/index.ts'
import { failureOf, markOf, type StageProgram, type StagePrograms, type StageReport } from '../stages/index.ts'
import type { BackupDeps, BackupRequest } from './backup-types.ts'

/** The programs of the job that a run is of. */
export type StagesRequest = {
  readonly job: string
  readonly dueAt: string | undefined
  readonly programs: readonly StageProgram[]
  /** Told of each warning, also of those that come when the run is over. */
  readonly onWarning: (warning: string) => void
}

/** A program before a stage wanted the VM left alone this time. */
export class StageSkip extends AgentError {
  /** What it said. */
  readonly reason: string

  constructor(vm: string, { program: { at, command }, how }: StageReport) {
    super('CANCELED', `The ${at} program ${command[0] ?? ''} skipped VM ${vm}: ${how}.`, {
      subject: vm,
      next: 'Nothing has to be done: its next moment comes.',
    })
    this.reason = how
  }
}

type Parts = { readonly stages: StagePrograms; readonly claims: Claims; readonly log: Log }
type Pair = { readonly before: 'preRun' | 'preSnapshot'; readonly after: 'postRun' | 'postSnapshot' }
const RUN: Pair = { before: 'preRun', after: 'postRun' }
const SNAPSHOT: Pair = { before: 'preSnapshot', after: 'postSnapshot' }

/**
 * The programs around one VM's run. Those after a stage come whatever happens from before the first program of the stage began: they are a claim, whose releaser runs them.
 * They stand on nothing, so that one which cannot be run for now does not keep the VM locked.
 */
export class Stages {
  readonly #deps: Parts
  readonly #request: StagesRequest
  #facts: StageFacts

  constructor(deps: Parts, request: StagesRequest, facts: Omit<StageFacts, 'job' | 'dueAt' | 'disks'>, config: VmConfig) {
    this.#deps = deps
    this.#request = request
    const disks = config.disks.map(({ key, label, uuid, capacityBytes, fileName }) => ({ key, label, uuid, capacityBytes, fileName }))
    this.#facts = { ...facts, job: request.job, dueAt: request.dueAt, disks }
  }

  /** preRun → `work` → postRun, when all else of the job has been released. Errors: those of `work`, a StageSkip, UNAVAILABLE where a program failed with `require`. */
  async aroundRun<T extends Pick<StageFacts, 'point' | 'mode'>>(work: () => Promise<T>, options: Abortable): Promise<T> {
    const claim = await this.#begin(RUN, options)
    return this.#told(claim, work, ({ point, mode }) => ({ point, mode, result: 'succeeded' }))
  }

  /** preSnapshot → `take` → postSnapshot, before anything is read. Errors: as `aroundRun`. */
  async aroundSnapshot<T extends { readonly snapshot: NonNullable<StageFacts['snapshot']> }>(
    take: () => Promise<T>,
    options: Abortable,
  ): Promise<T> {
    const reports: StageReport[] = []
    const claim = await this.#begin(SNAPSHOT, options, (report) => reports.push(report))
    let taken: T
    try {
      taken = await this.#told(claim, take, ({ snapshot: { moref, name } }) => ({ snapshot: { moref, name }, result: 'succeeded' }))
    } catch (error) {
      await this.#release(claim)
      throw error
    }
    await this.#release(claim)
    const { result: _result, ...facts } = this.#facts
    this.#facts = facts
    this.#refuse(reports)
    return taken
  }

  /** postStore. The point is stored: nothing that happens here is a failure. */
  async stored(facts: Pick<StageFacts, 'point' | 'mode'>, options: Abortable): Promise<void> {
    const { stages, claims } = this.#deps
    this.#facts = { ...this.#facts, ...facts }
    try {
      for (const report of await stages.run('postStore', this.#request.programs, this.#facts, { ...options, mark: `${claims.job}.stored` }))
        this.#warn(report)
    } catch (error) {
      if (!isAgentError(toAgentError(error), 'CANCELED')) throw error
      this.#request.onWarning(`The postStore programs of ${this.#facts.vm.name} were not all run: ${toAgentError(error).message}`)
    }
  }

  /** Runs the programs before a stage; the claim of those after it, where there are any. */
  async #begin({ before, after }: Pair, options: Abortable, onReport?: (report: StageReport) => void): Promise<ClaimId | undefined> {
    const { stages, claims } = this.#deps
    const of = (stage: Stage): readonly StageProgram[] => this.#request.programs.filter(({ at }) => at === stage)
    const [first, last] = [of(before), of(after)]
    const begin = async (mark: string): Promise<void> => {
      const reports = await stages.run(before, first, this.#facts, { ...options, mark })
      for (const report of reports) this.#warn(report)
      this.#refuse(reports)
    }
    if (last.length === 0) {
      await begin(`${claims.job}.${before}`)
      return undefined
    }
    const limitMs = Math.max(...[...first, ...last].map(({ timeoutMs }) => timeoutMs))
    const { id } = await claims.take('stagePrograms', { stage: after, facts: this.#facts, limitMs }, [], async (claim) => {
      stages.expect(claim, last, (report) => {
        this.#warn(report)
        onReport?.(report)
      })
      try {
        await begin(markOf(claim, 'before'))
      } catch (error) {
        stages.know(claim, { ...this.#facts, ...endOf(error) })
        throw error
      }
      return this.#facts
    })
    return id
  }

  /** Writes down what `work` came to, for the programs after it. */
  async #told<T>(claim: ClaimId | undefined, work: () => Promise<T>, known: (result: T) => Partial<StageFacts>): Promise<T> {
    try {
      const result = await work()
      await this.#know(claim, known(result))
      return result
    } catch (error) {
      await this.#know(claim, endOf(error))
      throw error
    }
  }

  async #know(claim: ClaimId | undefined, known: Partial<StageFacts>): Promise<void> {
    this.#facts = { ...this.#facts, ...known }
    if (claim === undefined) return
    const { stages, claims, log } = this.#deps
    stages.know(claim, this.#facts)
    try {
      await claims.update(claim, this.#facts)
    } catch (error) {
      // This process knows it; only another one would not.
      log.warn('what a run came to could not be written down for its programs', { claim, error: toAgentError(error).message })
    }
  }

  /** What cannot be run now stays among the claims, which tell it when the job ends. */
  async #release(claim: ClaimId | undefined): Promise<void> {
    if (claim === undefined) return
    try {
      await this.#deps.claims.release(claim)
    } catch (error) {
      if (!(error instanceof LeftError)) throw error
    }
  }

  #warn(report: StageReport): void {
    if (report.result === 'failed' && !this.#isRefusal(report)) this.#request.onWarning(failureOf(report))
    const { at, command } = report.program
    for (const warning of report.warnings) this.#request.onWarning(`The ${at} program ${command[0] ?? ''}: ${warning}`)
  }

  #refuse(reports: readonly StageReport[]): void {
    const { vm } = this.#facts
    for (const report of reports) {
      if (report.result === 'skip') throw new StageSkip(vm.name, report)
      if (!this.#isRefusal(report)) continue
      throw new AgentError('UNAVAILABLE', failureOf(report), {
        subject: vm.name,
        retry: 'later',
        next: 'Look at what the program says; with policy try its failure is a warning.',
      })
    }
  }

  #isRefusal = ({ result, program: { policy } }: StageReport): boolean => result === 'failed' && policy === 'require'
}

/** Of a run; without programs where it is of no job. */
export function stagesOf(
  deps: Pick<BackupDeps, 'stages' | 'provider' | 'log'>,
  claims: Claims,
  { stages, run, vm, mode }: BackupRequest,
  config: VmConfig,
): Stages {
  const request = stages ?? { job: '', dueAt: undefined, programs: [], onWarning: () => undefined }
  const facts = { run, vm, mode: mode === 'auto' ? undefined : mode, repository: deps.provider.url }
  return new Stages({ ...deps, claims }, request, facts, config)
}

/** Why a program skipped the VM, where that is what ended a run. */
export function skipOf(thrown: unknown): string | undefined {
  const error = firstOf(thrown)
  return error instanceof StageSkip ? error.reason : undefined
}

function firstOf(thrown: unknown): AgentError {
  const shown = toAgentError(thrown)
  return shown instanceof LeftError ? (shown.first ?? shown) : shown
}

function endOf(thrown: unknown): Pick<StageFacts, 'result' | 'error'> {
  const error = firstOf(thrown)
  const { code, message, next } = error
  if (error instanceof StageSkip) return { result: 'skipped', error: { code, message, next } }
  return { result: code === 'CANCELED' ? 'canceled' : 'failed', error: { code, message, next } }
}
