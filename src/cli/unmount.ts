import type { Command } from 'commander'
import { AgentError } from '../core/index.ts'
import { type CliIo, printable } from './io.ts'
import { type CommandFlags, examples, withCommon, withConnection, withJobs } from './options.ts'
import type { ExitStatus } from './program.ts'

export function registerUnmount(program: Command, io: CliIo, status: ExitStatus): void {
  const command = program
    .command('unmount')
    .description('end a lease of "vcb mount": everything is undone, the snapshot removed')
    .argument('<dir|lease>', 'the directory it is shown in, or the lease by id')
  withCommon(withJobs(withConnection(command)))
    .option('--read-all', 'every disk must have been read to its end')
    .addHelpText(
      'after',
      examples(['vcb unmount /mnt/web1', 'vcb unmount 4f1c2a9b-7c1e-4d8a-9f21-0c5d3a7be011 --read-all --json']) +
        `
Returns when everything is released. It is done again without harm: what is over already is success. A script does better to name the lease than the
directory: it then ends its own lease alone, and is told when that had ended before.

Exit codes: 0 nothing speaks against what was read; 9 a reader got an error instead of data, the lease had ended before, or with --read-all a disk was not
read to its end; 12 something is still held, see "vcb status".
`,
    )
    .action(async (target: string, flags: CommandFlags & { readonly readAll?: boolean | undefined }) => {
      const [{ withAgent }, { runUnmount }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        const done = await runUnmount(agent, target, { readAll: flags.readAll === true })
        if (done.doubt !== undefined) status.exit = new AgentError('INTEGRITY', '').exit
        else if (done.held.length > 0) status.exit = new AgentError('PARTIAL', '').exit
        output.result(done, () => {
          if (done.lease === undefined) return `Nothing is shown in ${printable(target)}.`
          const lines = [`The lease ${done.lease} on ${printable(done.vm ?? '')} ${done.ended ? 'has ended' : 'had ended already'}.`]
          for (const held of done.held) lines.push(`    still held: ${printable(held)}; "vcb recover" releases it`)
          return lines.join('\n')
        })
        if (done.doubt !== undefined) {
          output.note(`vcb: ${printable(done.doubt)}`)
          output.note('     Do not trust what was copied from it; mount the VM again and repeat the copy.')
        }
      })
    })
}
