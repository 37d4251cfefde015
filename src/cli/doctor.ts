import type { Command } from 'commander'
import { AgentError } from '../core/index.ts'
import { type CliIo, printable } from './io.ts'
import { type CommandFlags, examples, withCommon, withConnection, withRepository, withTransports } from './options.ts'
import type { ExitStatus } from './program.ts'

export function registerDoctor(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withTransports(
      withRepository(withConnection(program.command('doctor').description('look at everything a backup needs and say what is missing'))),
    ),
  )
    .addHelpText('after', examples(['vcb doctor', 'vcb doctor --vcenter https://vc.example.com --user backup --password-file pw']))
    .action(async (flags: CommandFlags) => {
      const [{ withAgent }, { diagnose }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        const findings = await diagnose(agent)
        if (findings.some((finding) => finding.result === 'failed')) status.exit = new AgentError('CONFIG', '').exit
        output.result({ findings }, () =>
          findings
            .map((finding) => {
              const line = `${finding.result.padEnd(8)}${printable(finding.check)}: ${printable(finding.detail)}`
              return finding.next === undefined ? line : `${line}\n        ${printable(finding.next)}`
            })
            .join('\n'),
        )
      })
    })
}
