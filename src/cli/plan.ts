import type { Command } from 'commander'
import type { JobConfig, RunPlan } from '../agent/index.ts'
import { AgentError, systemClock } from '../core/index.ts'
import { type CliIo, createOutput, errorJson, printable, renderTable } from './io.ts'
import { formatLength, formatMoment, parseMoment } from './moments.ts'
import { examples, repeatable, withCommon, withConnection } from './options.ts'
import { type AgentFlags, namedAgent, withRunningAgent } from './running-agent.ts'

type PlanFlags = AgentFlags & {
  readonly from?: string
  readonly to?: string
  readonly job?: readonly string[]
  readonly vm?: readonly string[]
  readonly offline?: string | true
  readonly fullTakes?: string
  readonly incrementalTakes?: string
  readonly timeZone?: string
  readonly all?: boolean
}

const MINUTE_MS = 60_000
/** What a run is taken to last of which nothing is known, ms. */
const TAKES = { full: 60 * MINUTE_MS, incremental: 10 * MINUTE_MS }
/** Nobody plans further ahead; an hourly job of a thousand VMs has nine million runs in it. */
const LONGEST_MS = 400 * 24 * 60 * MINUTE_MS
const MOST_ASSUMED = 10_000
/** Runs shown unless all are wanted. */
const SHOWN = 100

export function registerPlan(program: Command, io: CliIo): void {
  const command = program.command('plan').description('say which job will run on which VM when, and which RPO will be missed')
  withCommon(withConnection(withRunningAgent(command, { alone: false })))
    .option('--from <moment>', 'now, 2026-12-24, 2026-12-24T22:00; now when not given')
    .option('--to <moment>', 'the same, or 7d after --from; 7d when not given')
    .option('--job <name>', 'show only this job; repeatable', repeatable)
    .option('--vm <expression>', 'show only these VMs; repeatable', repeatable)
    .option('--offline [vms]', 'do not ask vCenter: each job has so many VMs, 1 when not given')
    .option('--full-takes <time>', 'how long a full run takes of which none is known; 60m when not given')
    .option('--incremental-takes <time>', 'the same of an incremental one; 10m when not given')
    .option('--time-zone <zone>', 'in which times are read and shown; the one of this machine when not given')
    .option('--all', `show every run, not only the first ${SHOWN}`)
    .addHelpText(
      'after',
      examples([
        'vcb plan',
        'vcb plan --from 2026-12-24 --to 2026-12-28 --job production',
        'vcb plan --to 365d --offline 200 --incremental-takes 20m --json',
      ]),
    )
    .action(async (flags: PlanFlags) => {
      const [{ withAgent }, { parseDuration, runPlan }, { createCalendar }] = await Promise.all([
        import('./session.ts'),
        import('../agent/index.ts'),
        import('../schedule/index.ts'),
      ])
      const zone = flags.timeZone ?? Temporal.Now.timeZoneId()
      createCalendar(zone)
      const offline = offlineOf(flags)
      const time = (flag: string, text: string | undefined, absent: number): number =>
        text === undefined ? absent : parseDuration(flag, text)
      const takes = {
        full: time('--full-takes', flags.fullTakes, TAKES.full),
        incremental: time('--incremental-takes', flags.incrementalTakes, TAKES.incremental),
      }
      await using elsewhere = await namedAgent(io, flags)
      if (elsewhere !== undefined) {
        if (flags.vm !== undefined || flags.offline !== undefined || (flags.job ?? []).length > 1) {
          throw new AgentError('USAGE', 'An agent elsewhere plans for all its jobs or for one.', {
            next: 'Leave out --vm, --offline and every --job but one.',
          })
        }
        const { showRemotePlan } = await import('./remote-plan.ts')
        const from = parseMoment('--from', flags.from ?? 'now', zone, systemClock.now())
        const range = { from, to: parseMoment('--to', flags.to ?? '7d', zone, from), job: flags.job?.[0] }
        await showRemotePlan(elsewhere, range, { output: createOutput(io, flags.json === true), zone }, { signal: io.signal })
        return
      }
      await withAgent(io, flags, async ({ agent, output }) => {
        const from = parseMoment('--from', flags.from ?? 'now', zone, agent.clock.now())
        const to = parseMoment('--to', flags.to ?? '7d', zone, from)
        if (to <= from || to.getTime() - from.getTime() > LONGEST_MS) {
          throw new AgentError('USAGE', 'The plan is to end after it begins, and not more than 400 days later.', {
            next: 'Correct --from and --to.',
          })
        }
        const plan = await runPlan(agent, { from, to, jobs: flags.job ?? [], vms: flags.vm ?? [], offline, takes })
        const shown = agent.config.jobs.filter(({ name }) => (flags.job ?? [name]).includes(name))
        const programs = shown.flatMap(({ name, stages }) => stages.map((program) => ({ job: name, ...program })))
        output.result({ from, to, ...toJson(plan), programs }, () => describe(plan, { zone, from, to, all: flags.all === true, programs }))
      })
    })
}

function offlineOf({ offline, vm }: PlanFlags): number | undefined {
  if (offline === undefined) return undefined
  const count = offline === true ? 1 : Number(offline)
  if (!Number.isInteger(count) || count < 1 || count > MOST_ASSUMED) {
    throw new AgentError('USAGE', `--offline takes a number of VMs from 1 to ${MOST_ASSUMED}.`, { next: 'Write --offline 20.' })
  }
  if (vm !== undefined)
    throw new AgentError('USAGE', 'Without vCenter an expression names no VM.', { next: 'Leave out --vm or --offline.' })
  return count
}

/** ISO 8601 instead of ms. */
function toJson({ runs, misses, overruns, left, empty, assumed }: RunPlan): object {
  const run = ({ job, vm, mode, dueAt, begunAt, endedAt, reason, deadline, openUntil }: RunPlan['runs'][number]): object => ({
    job,
    vm,
    mode,
    dueAt: iso(dueAt),
    begunAt: iso(begunAt),
    endedAt: iso(endedAt),
    reason,
    deadline: iso(deadline),
    windowCloses: iso(openUntil),
  })
  return {
    misses: misses.map(({ job, vm, from, to }) => ({ job, vm, from: iso(from), to: iso(to) })),
    overruns: overruns.map(run),
    left,
    empty: empty.map(({ job, error }) => ({ job, error: errorJson(error) })),
    assumed,
    runs: runs.map(run),
  }
}

const iso = (ms: number | undefined): string | undefined => (ms === undefined ? undefined : new Date(ms).toISOString())

type Shown = {
  readonly zone: string
  readonly from: Date
  readonly to: Date
  readonly all: boolean
  readonly programs: readonly (JobConfig['stages'][number] & { readonly job: string })[]
}

/** What goes wrong first. */
function describe(plan: RunPlan, { zone, from, to, all, programs }: Shown): string {
  const at = (ms: number): string => formatMoment(ms, zone)
  const { runs, misses, overruns, left, empty, assumed } = plan
  const cut = <T>(list: readonly T[]): readonly T[] => (all ? list : list.slice(0, SHOWN))
  const more = (list: readonly unknown[]): string =>
    list.length > SHOWN && !all ? `\n… and ${list.length - SHOWN} more; --all shows them` : ''
  const parts = [`${at(from.getTime())} to ${at(to.getTime())} ${zone}: ${runs.length} runs, ${misses.length} RPOs missed`]
  for (const { job, error } of empty) parts.push(`NO VM: ${job}: ${printable(error.message)}`)
  if (misses.length > 0) {
    const rows = cut(misses).map((miss) => [
      miss.job,
      miss.vm.name,
      at(miss.from),
      miss.to >= to.getTime() ? 'not in this time' : at(miss.to),
      formatLength(miss.to - miss.from),
    ])
    parts.push(`RPO MISSED\n${renderTable(['JOB', 'VM', 'FROM', 'UNTIL A GOOD POINT', 'FOR'], rows)}${more(misses)}`)
  }
  if (overruns.length > 0) {
    const rows = cut(overruns).map((run) => [run.job, run.vm.name, at(run.begunAt), at(run.endedAt), at(run.openUntil ?? run.endedAt)])
    parts.push(`DOES NOT FIT ITS WINDOW\n${renderTable(['JOB', 'VM', 'BEGINS', 'ENDS', 'WINDOW CLOSES'], rows)}${more(overruns)}`)
  }
  if (left.length > 0) {
    parts.push(
      `NEVER RUN: no window or no place comes for\n${renderTable(
        ['JOB', 'VM'],
        cut(left).map(({ job, vm }) => [job, vm.name]),
      )}${more(left)}`,
    )
  }
  if (runs.length > 0) {
    const rows = cut(runs).map((run) => [at(run.begunAt), at(run.endedAt), run.job, run.vm.name, run.mode, run.reason])
    parts.push(`RUNS\n${renderTable(['BEGINS', 'ENDS', 'JOB', 'VM', 'MODE', 'WHY'], rows)}${more(runs)}`)
  }
  if (programs.length > 0) {
    const rows = programs.map(({ job, at: stage, command, timeoutMs }) => [job, stage, command.join(' '), formatLength(timeoutMs)])
    parts.push(`PROGRAMS OF THIS PROXY, for each run\n${renderTable(['JOB', 'STAGE', 'PROGRAM', 'AT MOST'], rows)}`)
  }
  parts.push(`Assumed: ${assumed.join('; ')}.`)
  return parts.join('\n\n')
}
