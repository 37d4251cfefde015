import type { Command } from 'commander'
import type { CliIo } from './io.ts'
import { printable, renderTable } from './io.ts'
import { type CommandFlags, examples, withCommon } from './options.ts'

export function registerNotices(program: Command, io: CliIo): void {
  const notices = program.command('notices').description('whom the agent tells what happened')
  withCommon(notices.command('list').description('list the notices of vcb.yaml, and how many wait to be delivered'))
    .addHelpText('after', examples(['vcb notices list', 'vcb notices list --json']))
    .action(async (flags: CommandFlags) => {
      const [{ withAgent }, { listNotices }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        output.result(await listNotices(agent), (lines) =>
          lines.length === 0
            ? 'No notices are configured.'
            : renderTable(
                ['NOTICE', 'TO', 'TELLS', 'JOBS', 'WAITING', 'DROPPED'],
                lines.map(({ notice, to, tells, jobs, waiting, dropped }) => [
                  notice,
                  to,
                  tells.join(', '),
                  jobs.length === 0 ? '-' : jobs.join(', '),
                  String(waiting),
                  String(dropped),
                ]),
              ),
        )
      })
    })
  withCommon(
    notices
      .command('test')
      .description('send a test message to a notice of vcb.yaml, at once')
      .argument('<name>', 'of the section notices'),
  )
    .addHelpText('after', examples(['vcb notices test office']))
    .action(async (name: string, flags: CommandFlags) => {
      const [{ withAgent }, { sendTestNotice }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        output.result(await sendTestNotice(agent, name), ({ to }) => `The test was taken: ${printable(to)}.`)
      })
    })
  for (const command of notices.commands) command.exitOverride().configureOutput({ writeOut: io.out, writeErr: io.err })
}
