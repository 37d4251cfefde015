import type { Command } from 'commander'
import { AgentError, writeFileAtomic } from '../core/index.ts'
import type { CliIo } from './io.ts'
import { type CommandFlags, examples, repeatable, withCommon, withConnection } from './options.ts'
import type { ExitStatus } from './program.ts'

type ReportFlags = CommandFlags & {
  readonly since: string
  readonly job?: readonly string[]
  readonly html?: string
  readonly timeZone?: string
}

export function registerReport(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(withConnection(program.command('report').description('what is not protected, and what ran: as text, or as a page')))
    .option('--since <time>', 'so long ago, like 7d', '24h')
    .option('--job <name>', 'only runs of this job; repeatable', repeatable)
    .option('--html <file>', 'write it there as HTML, too')
    .option('--time-zone <zone>', 'in which times are shown; the one of this machine when not given')
    .addHelpText(
      'after',
      examples(['vcb report --since 7d', 'vcb report --html /var/www/backup.html', 'vcb report --json']) +
        `
Exit codes: 0 nothing wants attention, 12 something is not protected, or a run failed.
`,
    )
    .action(async (flags: ReportFlags) => {
      const [{ withAgent }, { parseDuration, runReport }, { needsAttention, reportHtml, reportText }, { createCalendar }] =
        await Promise.all([
          import('./session.ts'),
          import('../agent/index.ts'),
          import('../notices/index.ts'),
          import('../schedule/index.ts'),
        ])
      const timeZone = flags.timeZone ?? Temporal.Now.timeZoneId()
      createCalendar(timeZone)
      await withAgent(io, flags, async ({ agent, output }) => {
        const until = agent.clock.now()
        const since = new Date(until.getTime() - parseDuration('--since', flags.since))
        const report = await runReport(agent, { since, until, timeZone, jobs: flags.job ?? [] })
        if (flags.html !== undefined) await writeFileAtomic(flags.html, reportHtml(report))
        if (needsAttention(report)) status.exit = new AgentError('PARTIAL', '').exit
        output.result(report, () => reportText(report).trimEnd())
      })
    })
}
