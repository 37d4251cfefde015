import {
  type Abortable,
  AgentError,
  type ClaimId,
  type Clock,
  type Log,
  type Stage,
  type StageFacts,
  type StagesToCome,
} from '../core/index.ts'
import { endMarkedPrograms } from './marked-programs.ts'
import { runStageProgram, type StageProgram, type StageReport } from './stage-program.ts'

export type StageProgramsDeps = {
  readonly clock: Clock
  readonly log: Log
  /** Those of a job as the configuration has them now; undefined when there is no such job. */
  readonly programsOf: (job: string) => readonly StageProgram[] | undefined
}

/** Programs that are still to come in a run of this process. */
type Coming = {
  readonly programs: readonly StageProgram[]
  readonly onReport: (report: StageReport) => void
  facts: StageFacts | undefined
}

/**
 * Programs at stages of all runs of this process, and of those that dead ones left to come. Made by the composition root.
 *
 * What comes after the death of its process is run as the configuration has it by then, never as a journal has it: whoever can write there is not to run programs here. It is
 * run at least once: a death in the middle of it runs it again, after what is left of the first time has ended or was ended.
 */
export class StagePrograms {
  readonly #deps: StageProgramsDeps
  readonly #coming = new Map<ClaimId, Coming>()

  constructor(deps: StageProgramsDeps) {
    this.#deps = deps
  }

  /** All of a stage, one after another; one before its stage that skips the VM or fails with `require` is the last. CANCELED. */
  async run(
    stage: Stage,
    programs: readonly StageProgram[],
    facts: StageFacts,
    { recovered = false, ...options }: Abortable & { readonly mark: string; readonly recovered?: boolean | undefined },
  ): Promise<readonly StageReport[]> {
    const { clock, log } = this.#deps
    const reports: StageReport[] = []
    for (const program of programs.filter(({ at }) => at === stage)) {
      const report = await runStageProgram(program, facts, { ...options, clock, log, recovered })
      reports.push(report)
      const ends = report.result === 'skip' || (report.result === 'failed' && program.policy === 'require')
      if (ends && stage.startsWith('pre')) break
    }
    return reports
  }

  /** From now on `programs` come when the claim is released by this process, and are told to `onReport`. */
  expect(claim: ClaimId, programs: readonly StageProgram[], onReport: (report: StageReport) => void): void {
    this.#coming.set(claim, { programs, onReport, facts: undefined })
  }

  /** What is known of a run of this process, before the journal has it. */
  know(claim: ClaimId, facts: StageFacts): void {
    const coming = this.#coming.get(claim)
    if (coming !== undefined) coming.facts = facts
  }

  /** What is known of a claim whose programs before may not have ended: the programs after are run all the same. After the death of its process it waits for those before. */
  async found(claim: ClaimId, { facts, limitMs }: StagesToCome, options: Abortable = {}): Promise<StageFacts> {
    const coming = this.#coming.get(claim)
    if (coming === undefined) await endMarkedPrograms(markOf(claim, 'before'), limitMs, { ...options, clock: this.#deps.clock })
    return coming?.facts ?? facts
  }

  /**
   * Runs those that are to come. One that fails is told in its report and the log, not thrown. CONFIG when they were those of a dead process and are not configured any more;
   * CANCELED when the time for releases is over: then all of them are run again.
   */
  async come(claim: ClaimId, { stage, limitMs }: StagesToCome, facts: StageFacts, options: Abortable = {}): Promise<void> {
    const coming = this.#coming.get(claim)
    const programs = coming?.programs ?? this.#configured(stage, facts)
    const mark = markOf(claim, 'after')
    if (coming === undefined) await endMarkedPrograms(mark, limitMs, { ...options, clock: this.#deps.clock })
    const reports = await this.run(stage, programs, coming?.facts ?? facts, { ...options, mark, recovered: coming === undefined })
    for (const report of reports) coming?.onReport(report)
    this.#coming.delete(claim)
  }

  #configured(stage: Stage, { job, vm }: StageFacts): readonly StageProgram[] {
    const programs = (this.#deps.programsOf(job) ?? []).filter(({ at }) => at === stage)
    if (programs.length > 0) return programs
    throw new AgentError('CONFIG', `The job ${job} has no ${stage} programs any more, which are still to be run for VM ${vm.name}.`, {
      subject: vm.name,
      next: 'Write what is to be run into the stages of that job in vcb.yaml, and run "vcb recover" with it.',
    })
  }
}

/** In the environment of the programs before a stage, and of those after it. */
export const markOf = (claim: ClaimId, when: 'before' | 'after'): string => `${claim}.${when}`
