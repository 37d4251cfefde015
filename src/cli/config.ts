import type { Command } from 'commander'
import type { ConfigCheck } from '../agent/index.ts'
import { AgentError } from '../core/index.ts'
import { type CliIo, createOutput, printable } from './io.ts'
import { type CommandFlags, examples, withCommon, withConnection, withRepository } from './options.ts'
import type { ExitStatus } from './program.ts'

export function registerConfig(program: Command, io: CliIo, status: ExitStatus): void {
  const config = program.command('config').description('what vcb.yaml says, and whether it is right')
  withCommon(
    withRepository(withConnection(config.command('check').description('list everything that is wrong with vcb.yaml, with its place'))),
  )
    .addHelpText('after', examples(['vcb config check', 'vcb config check --config /etc/vcb/vcb.yaml --json']))
    .action(async (flags: CommandFlags) => {
      const { checkConfig, formatProblem } = await import('../agent/index.ts')
      const check = await checkConfig(flags, io.environment)
      if (check.problems.length > 0) status.exit = new AgentError('CONFIG', '').exit
      createOutput(io, flags.json === true).result({ file: check.file, problems: check.problems, jobs: check.config?.jobs.length }, () =>
        [...check.problems.map((problem) => printable(formatProblem(problem))), summary(check)].join('\n'),
      )
    })
  for (const command of config.commands) command.exitOverride().configureOutput({ writeOut: io.out, writeErr: io.err })
}

function summary({ file, problems, config }: ConfigCheck): string {
  if (problems.length > 0) return `${problems.length} ${problems.length === 1 ? 'problem' : 'problems'} in ${file}.`
  const [jobs, repositories] = [config?.jobs.length ?? 0, config?.repositories.length ?? 0]
  return `${file} is in order: ${jobs} ${jobs === 1 ? 'job' : 'jobs'}, ${repositories} ${repositories === 1 ? 'repository' : 'repositories'}.`
}
