import type { Command } from 'commander'
import { AgentError } from '../core/index.ts'
import { type CliIo, printable } from './io.ts'
import { type CommandFlags, examples, withCommon, withConnection } from './options.ts'
import type { ExitStatus } from './program.ts'

export function registerRecover(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withConnection(program.command('recover').description('release what jobs of dead processes left: snapshots, half restores, locks')),
  )
    .addHelpText('after', examples(['vcb recover', 'vcb recover --json']))
    .action(async (flags: CommandFlags) => {
      const { withAgent } = await import('./session.ts')
      await withAgent(io, flags, async ({ agent, output }) => {
        const report = await agent.recover()
        const kept = report.recovered.flatMap((job) => job.claims).filter((claim) => claim.result === 'kept')
        if (kept.length > 0) status.exit = new AgentError('PARTIAL', '').exit
        output.result(report, () => {
          if (report.recovered.length === 0 && report.untouched.length === 0) return 'Nothing is held.'
          return [
            ...report.recovered.flatMap((job) => [
              `${job.kind} job ${job.job}: ${job.closed ? 'released' : 'NOT fully released'}`,
              ...job.claims.map(
                (claim) =>
                  `    ${claim.kind} ${claim.claim}: ${claim.result}${claim.result === 'kept' ? `, ${printable(claim.reason ?? 'no reason given')}` : ''}`,
              ),
            ]),
            ...report.untouched.map((job) => `${job.kind} job ${job.job}: left alone, ${printable(job.reason)}`),
          ].join('\n')
        })
      })
    })
}
