import type { Command } from 'commander'
import type { HeldStatus, JobStatus, StatusReport } from '../agent/index.ts'
import type { AgentStatusView, ApiClient } from '../api/index.ts'
import { AgentError, formatBytes, systemClock } from '../core/index.ts'
import { type CliIo, createOutput, printable } from './io.ts'
import { examples, withCommon } from './options.ts'
import type { ExitStatus } from './program.ts'
import { type AgentFlags, findAgent, withRunningAgent } from './running-agent.ts'

/** The kind of the job that an agent is. */
const AGENT_JOB = 'agent'
/** Finished jobs shown, without and with --all. */
const SOME = 10
const MANY = 1000

export function registerStatus(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withRunningAgent(program.command('status').description('what is going on, what is held and why, and how the last jobs ended'), {
      alone: true,
    }),
  )
    .option('--all', 'all finished jobs that are remembered, not only the last ten')
    .addHelpText(
      'after',
      examples(['vcb status', 'vcb status --all --json']) +
        `
Reads the state database of this proxy and changes nothing; no vCenter is needed. Where an agent runs, its queue is shown first.

Exit codes: 0 nothing is left over, 12 something of a process that has ended is still held.
`,
    )
    .action(async (flags: AgentFlags & { readonly all?: boolean | undefined }) => {
      const [{ withAgent }, { readStatus }, { queueText, reportOf }] = await Promise.all([
        import('./session.ts'),
        import('../agent/index.ts'),
        import('./queue-text.ts'),
      ])
      await using client = await findAgent(io, flags)
      const queue = client === undefined ? undefined : await queueOf(client, io.signal)
      const shown = queue === undefined ? '' : `${queueText(queue)}\n`
      if (queue !== undefined && client?.remote === true) {
        const report = reportOf(queue.journal)
        if (report.leftOver.length > 0) status.exit = new AgentError('PARTIAL', '').exit
        createOutput(io, flags.json === true).result(queue, () => `${shown}${textOf(report, systemClock.now())}`)
        return
      }
      await withAgent(io, flags, async ({ agent, output }) => {
        const { journal, buckets, clock, processes, checks, renewals, catalog } = agent
        const report = await readStatus(
          { journal, buckets, clock, checks, renewals, catalog, isAlive: (owner) => processes.isAlive(owner) },
          flags.all === true ? MANY : SOME,
        )
        if (report.leftOver.length > 0) status.exit = new AgentError('PARTIAL', '').exit
        const { journal: _, ...agentQueue } = queue ?? { journal: undefined }
        output.result(queue === undefined ? report : { ...report, agent: agentQueue }, () => `${shown}${textOf(report, clock.now())}`)
      })
    })
}

/** What a running agent says; without one nothing of its API is loaded. */
async function queueOf(client: ApiClient, signal: AbortSignal): Promise<AgentStatusView> {
  const { askStatus } = await import('../api/index.ts')
  return askStatus(client, { signal })
}

function textOf(report: StatusReport, now: Date): string {
  const lines: string[] = []
  const section = (title: string, jobs: readonly JobStatus[], note: (job: JobStatus) => string): void => {
    if (jobs.length === 0) return
    lines.push(title)
    for (const job of jobs) {
      lines.push(`  ${job.kind}  ${job.job}${job.subject === undefined ? '' : `  ${printable(job.subject)}`}  ${note(job)}`)
      for (const held of job.held) lines.push(...heldLines(held, now).map((line) => `      ${line}`))
      if (job.release !== undefined) lines.push(`      tried again by the next backup or restore, or now with: ${job.release}`)
    }
  }
  section('Running', report.running, (job) => {
    const turn = job.held.length === 0 && job.kind !== AGENT_JOB ? ', waits for its turn' : ''
    const waiting = job.waitsFor === undefined ? turn : `, ${printable(job.waitsFor)}`
    const canceled = job.cancel === undefined ? waiting : `, being canceled by ${printable(job.cancel.by)}`
    return `process ${job.pid}, for ${duration(job.ageMs)}${canceled}`
  })
  section(
    'Leases',
    report.leases,
    (job) =>
      `${job.directory === undefined ? '' : `in ${printable(job.directory)} `}until ${job.leaseUntil ?? job.until}${job.pid === undefined ? '' : `, held by process ${job.pid}`}`,
  )
  section('Left over', report.leftOver, (job) => {
    if (job.outcome !== undefined) return `${job.outcome.result}, begun ${job.since}`
    return job.leaseUntil === undefined || job.pid !== undefined
      ? `its process has ended, begun ${job.since}`
      : `its lease ran out at ${job.leaseUntil}`
  })
  if (lines.length === 0) lines.push('Nothing runs and nothing is held.')
  if (report.limits.length > 0) lines.push('Limits', ...report.limits.map((use) => `  ${limitLine(use)}`))
  if (report.repositories.length > 0) lines.push('Repositories', ...report.repositories.flatMap(repositoryLines))
  if (report.finished.length > 0) lines.push('Finished, the last first')
  for (const job of report.finished) {
    const reason = job.outcome.reason === undefined ? '' : `: ${printable(job.outcome.reason)}`
    lines.push(
      `  ${job.finishedAt.toISOString()}  ${job.kind}  ${job.job}${job.subject === undefined ? '' : `  ${printable(job.subject)}`}  ${job.outcome.result}${reason}`,
    )
  }
  return lines.join('\n')
}

/** Problems shown of one repository; `--json` has the others. */
const PROBLEMS = 3

function repositoryLines({
  url,
  points,
  size,
  structureAt,
  dataSince,
  problems,
  locks,
}: StatusReport['repositories'][number]): readonly string[] {
  const unused = size?.unusedBytes === undefined ? '' : `, of which ${formatBytes(size.unusedBytes)} no point needs`
  const taken = size === undefined ? '' : `, ${formatBytes(size.bytes)}${unused}`
  const checked = structureAt === undefined ? 'not checked yet' : `structure checked ${structureAt}`
  const read = dataSince === undefined ? 'not all data read yet' : `all data read since ${dataSince}`
  const renewed =
    locks === undefined ? '' : locks.renewedAt === undefined ? ', locks not renewed yet' : `, locks renewed ${locks.renewedAt}`
  const lines = [`  ${printable(url)}  ${points} points${taken}, ${checked}, ${read}${renewed}`]
  if (locks?.problem !== undefined) lines.push(`    WARNING: ${locks.problem.at}  locks not renewed: ${printable(locks.problem.what)}`)
  if (locks !== undefined && locks.short > 0)
    lines.push(`    WARNING: ${locks.short} points are not protected as long as they are to be; see "vcb renew-locks"`)
  if (problems.length === 0) return lines
  lines.push(`    WARNING: ${problems.length} ${problems.length === 1 ? 'problem' : 'problems'} found; see "vcb check"`)
  return [...lines, ...problems.slice(0, PROBLEMS).map(({ what, at }) => `      ${at}  ${printable(what)}`)]
}

/** `2 of 4 disk streams of datastore nfs1: web01 (process 4711), db (process 4712); waiting: app (process 4712)` */
function limitLine({ name, limit, uses }: StatusReport['limits'][number]): string {
  const named = (waits: boolean): readonly string[] =>
    uses
      .filter((use) => use.waits === waits)
      .map(
        ({ holder, pid, host }) =>
          `${printable(holder)}${pid === undefined ? '' : ` (process ${pid}${host === undefined ? '' : ` on ${printable(host)}`})`}`,
      )
  const [holds, waits] = [named(false), named(true)]
  return `${holds.length} of ${limit} ${printable(name)}: ${holds.join(', ')}${waits.length === 0 ? '' : `; waiting: ${waits.join(', ')}`}`
}

function heldLines(held: HeldStatus, now: Date): readonly string[] {
  const since = held.since === undefined ? '' : `, for ${duration(Math.max(0, now.getTime() - Date.parse(held.since)))}`
  const lines = [`${held.certain ? 'holds' : 'may hold'} ${printable(held.what)}${since}`]
  if (held.reason !== undefined) {
    const tries = `${held.attempts} ${held.attempts === 1 ? 'attempt' : 'attempts'}`
    lines.push(`  kept after ${tries}, the last at ${held.triedAt}: ${printable(held.reason)}`)
  }
  return lines
}

/** `42 s`, `3 min`, `2 h 5 min`, `4 d`. */
function duration(ms: number): string {
  const seconds = Math.round(ms / 1000)
  if (seconds < 120) return `${seconds} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 120) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d`
}
