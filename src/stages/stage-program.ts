import {
  type Abortable,
  AgentError,
  type Clock,
  type GroupEnded,
  type Log,
  printable,
  runGroup,
  type Stage,
  type StageFacts,
  throwIfAborted,
  toAgentError,
} from '../core/index.ts'
import { parseStageAnswer, type StageAnswer } from './stage-answer.ts'
import { stageDocument } from './stage-document.ts'
import { unfitProgram } from './unfit-program.ts'

/** A program on the proxy, given facts of the run as JSON on its standard input; docs/jobs.md. */
export type StageProgram = {
  readonly at: Stage
  /** Absolute path and arguments; no shell. */
  readonly command: readonly string[]
  readonly timeoutMs: number
  /** What its failure does to the run: ends it, or is a warning. */
  readonly policy: 'require' | 'try'
}

/** `skip`: it wants this VM left alone this time. `how`: how it ended, in words after "it", with what it said. */
export type StageReport = {
  readonly program: StageProgram
  readonly result: 'done' | 'skip' | 'failed'
  readonly how: string
  readonly warnings: readonly string[]
}

/** Exit status by which a program before a stage skips the VM: EX_TEMPFAIL of sysexits.h. */
export const SKIP = 75
/** Characters of its output in the log, and of its last line in a sentence. */
const LOGGED = 2000
const LAST_LINE = 200

const ENVIRONMENT = Object.freeze({ PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' })
/** In the environment of a program, and of what it starts: whose it is. */
export const MARK_VARIABLE = 'VCB_STAGE_MARK'

export type StageRunOptions = Abortable & {
  readonly clock: Clock
  readonly log: Log
  /** Tells this stage of this run from all others; of those that are found again. */
  readonly mark: string
  readonly recovered: boolean
}

/** Runs one program. Whatever it does is told in the report and the log; CANCELED alone is thrown. */
export async function runStageProgram(program: StageProgram, facts: StageFacts, options: StageRunOptions): Promise<StageReport> {
  const { clock, log, mark, recovered, signal } = options
  const { at, command, timeoutMs } = program
  const path = command[0] ?? ''
  const since = clock.monotonicMs()
  let report: StageReport
  let ended: GroupEnded | undefined
  try {
    const unfit = await unfitProgram(path)
    if (unfit !== undefined) throw new AgentError('CONFIG', `${unfit}.`, { subject: path })
    ended = await runGroup(command, {
      clock,
      what: `run ${at} program`,
      patienceMs: timeoutMs,
      input: stageDocument(at, facts, recovered),
      environment: { ...ENVIRONMENT, VCB_STAGE: at, [MARK_VARIABLE]: mark },
      signal,
    })
    report = reportOf(program, ended)
  } catch (error) {
    throwIfAborted({ signal })
    const how = `it could not be run: ${toAgentError(error).message.replace(/[.]$/u, '')}`
    report = { program, result: 'failed', how, warnings: [] }
  }
  log[report.result === 'failed' ? 'warn' : 'info']('a program at a stage has ended', {
    stage: at,
    program: path,
    run: facts.run,
    job: facts.job,
    vm: facts.vm.name,
    result: report.result,
    how: report.how,
    ms: Math.round(clock.monotonicMs() - since),
    output: logged(ended?.output),
    errors: logged(ended?.complaint),
    recovered: recovered ? true : undefined,
  })
  return report
}

function reportOf(program: StageProgram, ended: GroupEnded): StageReport {
  const { exit, late } = ended
  const answer = parseStageAnswer(ended.output, ended.cut)
  const { at, timeoutMs } = program
  const reason = answer.reason ?? lastLine(ended)
  const said = reason === '' ? '' : ` (${reason})`
  const warnings = answer.problem === undefined ? answer.warnings : [`what it answered cannot be understood: ${answer.problem}`]
  if (late) return { program, result: 'failed', how: `it did not end within ${timeoutMs / 1000} s and was ended${said}`, warnings }
  if (exit === 0) return { program, result: 'done', how: 'it ended well', warnings }
  if (exit === SKIP && at.startsWith('pre')) return { program, result: 'skip', how: skipReason(answer, ended), warnings }
  return { program, result: 'failed', how: `${exit === undefined ? 'a signal ended it' : `it ended with ${exit}`}${said}`, warnings }
}

const skipReason = ({ reason }: StageAnswer, ended: GroupEnded): string => {
  const words = reason ?? lastLine(ended)
  return words === '' ? 'it gave no reason' : words
}

/** `The preRun program /x failed: it ended with 3 (…).` */
export const failureOf = ({ program: { at, command }, how }: StageReport): string => `The ${at} program ${command[0] ?? ''} failed: ${how}.`

/** Of what it complained of, or printed where that is no answer. */
function lastLine({ complaint, output }: GroupEnded): string {
  const errors = complaint.toString('utf8').trim()
  const words = output.toString('utf8').trim()
  const text = errors !== '' || words.startsWith('{') ? errors : words
  return printable((text.split('\n').at(-1) ?? '').trim().slice(0, LAST_LINE))
}

const logged = (bytes: Uint8Array | undefined): string | undefined => {
  const text = Buffer.from(bytes ?? [])
    .toString('utf8')
    .trim()
  return text === '' ? undefined : printable(text.slice(0, LOGGED))
}
