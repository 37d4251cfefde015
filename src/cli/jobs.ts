import type { Command } from 'commander'
import type { JobLine, VmLine } from '../agent/index.ts'
import { type CliIo, createOutput, errorJson, printable, renderTable } from './io.ts'
import { formatLength, formatMoment } from './moments.ts'
import { examples, withCommon, withConnection } from './options.ts'
import { type AgentFlags, namedAgent, withRunningAgent } from './running-agent.ts'

type JobsFlags = AgentFlags & { readonly vms?: boolean; readonly timeZone?: string }

export function registerJobs(program: Command, io: CliIo): void {
  withCommon(
    withConnection(
      withRunningAgent(
        program.command('jobs').description('list the jobs of vcb.yaml and when each runs next').argument('[job...]', 'only these'),
        { alone: false },
      ),
    ),
  )
    .option('--vms', 'ask vCenter which VMs each job has now, with the last good point and the next run of each')
    .option('--time-zone <zone>', 'in which times are shown; the one of this machine when not given')
    .addHelpText('after', examples(['vcb jobs', 'vcb jobs --vms', 'vcb jobs production --vms --json']))
    .action(async (names: string[], flags: JobsFlags) => {
      const [{ withAgent }, { listJobs, formatWindow }, { createCalendar }] = await Promise.all([
        import('./session.ts'),
        import('../agent/index.ts'),
        import('../schedule/index.ts'),
      ])
      const zone = flags.timeZone ?? Temporal.Now.timeZoneId()
      createCalendar(zone)
      await using elsewhere = await namedAgent(io, flags)
      if (elsewhere !== undefined) {
        const { showRemoteJobs } = await import('./remote-plan.ts')
        await showRemoteJobs(elsewhere, names, { output: createOutput(io, flags.json === true), zone }, { signal: io.signal })
        return
      }
      await withAgent(io, flags, async ({ agent, output }) => {
        const lines = await listJobs(agent, { names, vms: flags.vms === true })
        const now = agent.clock.now()
        const windowsOf = ({ job }: JobLine): readonly string[] => job.schedule.windows.map(formatWindow)
        output.result({ jobs: lines.map((line) => toJson(line, windowsOf(line))) }, () =>
          [jobTable(lines, windowsOf, zone), ...lines.flatMap((line) => vmTable(line, zone, now))].join('\n\n'),
        )
      })
    })
}

function jobTable(lines: readonly JobLine[], windowsOf: (line: JobLine) => readonly string[], zone: string): string {
  return renderTable(
    ['JOB', 'SELECTS', 'NEXT', 'RPO', 'WINDOWS', 'REPOSITORY'],
    lines.map((line) => {
      const { job, next } = line
      const windows = windowsOf(line)
      const { rpoMs, timeZone, cron } = job.schedule
      return [
        job.name,
        job.select.join(' '),
        next === undefined ? (cron.length > 0 || rpoMs !== undefined ? 'never' : 'when asked to') : formatMoment(next, zone),
        rpoMs === undefined ? '-' : formatLength(rpoMs),
        windows.length === 0 ? 'always' : `${windows.join(', ')} ${timeZone}`,
        [job.repository, ...job.copyTo].join(' > '),
      ]
    }),
  )
}

function vmTable({ job, vms, error }: JobLine, zone: string, now: Date): readonly string[] {
  if (error !== undefined) return [`${job.name}: ${printable(error.message)}\n${printable(error.next)}`]
  if (vms === undefined) return []
  const rows = vms.map((each) => {
    const { vm, lastGoodAt, next, mode, reason } = each
    const when = next === undefined ? '-' : next <= now ? 'now' : formatMoment(next, zone)
    return [
      vm.name,
      lastGoodAt === undefined ? 'none' : formatMoment(lastGoodAt, zone),
      job.schedule.rpoMs === undefined ? '-' : rpoOf(each, now),
      when,
      mode ?? '',
      reason ?? '',
    ]
  })
  return [
    `${job.name}: ${vms.length} ${vms.length === 1 ? 'VM' : 'VMs'}\n${renderTable(['VM', 'LAST GOOD', 'RPO', 'NEXT', 'MODE', 'WHY'], rows)}`,
  ]
}

function rpoOf({ deadline, next }: VmLine, now: Date): string {
  if (deadline === undefined) return 'NO GOOD POINT'
  if (deadline < now) return `MISSED by ${formatLength(now.getTime() - deadline.getTime())}`
  return next === undefined || next > deadline ? 'WILL BE MISSED' : 'kept'
}

function toJson({ job, next, vms, error }: JobLine, windows: readonly string[]): object {
  const { name, select, repository, copyTo, schedule } = job
  return {
    name,
    select,
    repository,
    copyTo,
    next,
    timeZone: schedule.timeZone,
    cron: schedule.cron,
    rpoMs: schedule.rpoMs,
    full: schedule.full,
    windows,
    priority: schedule.priority,
    ...(error === undefined ? {} : { error: errorJson(error) }),
    vms,
  }
}
