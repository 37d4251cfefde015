import type { Command } from 'commander'
import { AgentError, type JobId } from '../core/index.ts'
import { type CliIo, printable } from './io.ts'
import { type CommandFlags, examples, withCommon, withConnection } from './options.ts'
import type { ExitStatus } from './program.ts'

type RecoverFlags = CommandFlags & {
  readonly job?: string | undefined
  readonly wait?: string | undefined
  readonly journalLost?: boolean | undefined
}

export function registerRecover(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withConnection(program.command('recover').description('release what jobs of dead processes left: snapshots, half restores, locks')),
  )
    .option('--job <id>', 'only this job; its whole id or the beginning of it')
    .option('--wait <duration>', 'go on trying for so long while something cannot be released yet: 90s, 15m, 2h')
    .option('--journal-lost', 'the state database is damaged or gone: set it aside, start a new one, search vSphere for our marks')
    .addHelpText(
      'after',
      examples(['vcb recover', 'vcb recover --wait 2h', 'vcb recover --job 3f2a --json']) +
        `
Each claim is tried by itself: what is on a vCenter that is away, or locked by somebody, is kept with its reason and does not stop the rest.

Exit codes: 0 nothing is left, 12 something is kept (listed, and tried again by the next command or "vcb recover"), 5 no such job, 11 canceled.
`,
    )
    .action(async (flags: RecoverFlags) => {
      if (flags.journalLost === true) {
        const { recoverLostJournal } = await import('./recover-lost.ts')
        await recoverLostJournal(io, flags, status)
        return
      }
      const [{ withAgent }, { parseDuration }, { keptOf }] = await Promise.all([
        import('./session.ts'),
        import('../agent/index.ts'),
        import('../journal/index.ts'),
      ])
      const forMs = flags.wait === undefined ? 0 : parseDuration('--wait', flags.wait)
      await withAgent(io, flags, async ({ agent, output }) => {
        const job = flags.job === undefined ? undefined : await findJob(agent.journal, flags.job)
        const report = await agent.recover({
          job,
          forMs,
          onWaiting: (kept, pauseMs) => {
            for (const claim of kept) output.note(`${claim.kind} ${claim.claim}: ${printable(claim.reason ?? 'no reason given')}`)
            output.note(`${kept.length === 1 ? 'It is' : `${kept.length} are`} tried again in ${Math.ceil(pauseMs / 1000)} s.`)
          },
        })
        if (keptOf(report).length > 0) status.exit = new AgentError(io.signal.aborted ? 'CANCELED' : 'PARTIAL', '').exit
        output.result(jsonOf(report), () => {
          if (report.recovered.length === 0 && report.untouched.length === 0) return 'Nothing is held.'
          return [
            ...report.recovered.flatMap((each) => [
              `${each.kind} job ${each.job}: ${each.closed ? 'released' : 'NOT fully released'}`,
              ...each.claims.map(
                (claim) =>
                  `    ${claim.kind} ${claim.claim}: ${claim.result}${claim.result === 'kept' ? `, ${printable(claim.reason ?? 'no reason given')}` : ''}`,
              ),
            ]),
            ...report.untouched.map((each) => `${each.kind} job ${each.job}: left alone, ${printable(each.reason)}`),
          ].join('\n')
        })
      })
    })
}

type Report = Awaited<ReturnType<import('../agent/index.ts').Agent['recover']>>

/** Errors are told as reason and code; their causes are for the log. */
function jsonOf(report: Report): object {
  return {
    ...report,
    recovered: report.recovered.map((job) => ({
      ...job,
      claims: job.claims.map(({ error, ...claim }) =>
        error instanceof AgentError ? { ...claim, code: error.code, next: error.next } : claim,
      ),
    })),
  }
}

async function findJob(journal: import('../agent/index.ts').Agent['journal'], text: string): Promise<JobId> {
  const jobs = (await journal.unfinished()).map((open) => open.id)
  const found = text === '' ? [] : jobs.filter((id) => id.startsWith(text))
  if (found.length === 1 && found[0] !== undefined) return found[0]
  if (found.length > 1)
    throw new AgentError('USAGE', `"${text}" is the beginning of ${found.length} open jobs.`, { next: 'Give more of the id.' })
  throw new AgentError('NOT_FOUND', `There is no open job ${text}.`, {
    subject: text,
    next: 'Run "vcb recover" or "vcb status" to see what is held.',
  })
}
