import type { Command } from 'commander'
import type { RenewRun } from '../agent/index.ts'
import { AgentError } from '../core/index.ts'
import { type CliIo, printable } from './io.ts'
import { type CommandFlags, examples, withCommon, withRepository } from './options.ts'
import type { ExitStatus } from './program.ts'

export function registerRenewLocks(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withRepository(
      program
        .command('renew-locks')
        .description("have a bucket's Object Lock keep what restore points need as long as the points themselves"),
    ),
  )
    .option('--dry-run', 'say how many locks would be made longer, and which points are too little protected; changes no lock')
    .addHelpText(
      'after',
      [
        '',
        'The agent does it by itself after each cycle. No lock is made shorter; a renewal that is cut off is gone on with by the next one. See "Object Lock" in',
        'docs/repositories.md.',
        '',
        'Exit codes: 0 done, 12 some points are not protected as long as they are to be (something that they need is missing).',
        examples(['vcb renew-locks --dry-run', 'vcb renew-locks --repo s3:https://s3.example.com/vault/vms --json']),
      ].join('\n'),
    )
    .action(async (flags: CommandFlags & { readonly dryRun?: boolean }) => {
      const [{ withAgent }, { runRenewal }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        const run = await runRenewal(agent, { dryRun: flags.dryRun === true })
        if (!run.dryRun && run.short.length > 0) status.exit = new AgentError('PARTIAL', '').exit
        output.result(run, () => describe(run))
      })
    })
}

function describe({ repository, dryRun, snapshots, asked, lengthened, short }: RenewRun): string {
  const done = `${dryRun ? 'Would make' : 'Made'} ${lengthened} locks longer for ${snapshots} points in ${printable(repository)}; ${asked} were asked for.`
  const points = short.map(({ snapshot, wanted, until, problem }) => {
    const why = problem === undefined ? `needs what is kept until ${until} only` : printable(problem)
    return `point ${snapshot.slice(0, 8)}${wanted === '' ? '' : `, to be protected until ${wanted},`}: ${why}`
  })
  return [...points, done].join('\n')
}
