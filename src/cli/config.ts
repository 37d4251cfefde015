import type { Command } from 'commander'
import type { ConfigCheck, ExplainedConfig, Origin } from '../agent/index.ts'
import { AgentError } from '../core/index.ts'
import { type CliIo, createOutput, printable, renderTable } from './io.ts'
import {
  type CommandFlags,
  examples,
  withCommon,
  withConnection,
  withJobs,
  withRepository,
  withSnapshot,
  withTransports,
} from './options.ts'
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
  withCommon(
    withJobs(
      withSnapshot(
        withTransports(
          withRepository(
            withConnection(
              config
                .command('explain')
                .description('show the settings in force, or those of a job, and where each comes from')
                .argument('[job]', 'what the runs of this job go by'),
            ),
          ),
        ),
      ),
    ),
  )
    .addHelpText('after', examples(['vcb config explain', 'vcb config explain production', 'vcb config explain --quiesce none --json']))
    .action(async (job: string | undefined, flags: CommandFlags) => {
      const { explainConfig } = await import('../agent/index.ts')
      const explained = await explainConfig(flags, io.environment, job)
      createOutput(io, flags.json === true).result(explained, settingsTable)
    })
  for (const command of config.commands) command.exitOverride().configureOutput({ writeOut: io.out, writeErr: io.err })
}

function summary({ file, problems, config }: ConfigCheck): string {
  if (problems.length > 0) return `${problems.length} ${problems.length === 1 ? 'problem' : 'problems'} in ${file}.`
  const [jobs, repositories] = [config?.jobs.length ?? 0, config?.repositories.length ?? 0]
  return `${file} is in order: ${jobs} ${jobs === 1 ? 'job' : 'jobs'}, ${repositories} ${repositories === 1 ? 'repository' : 'repositories'}.`
}

const settingsTable = ({ settings }: ExplainedConfig): string =>
  renderTable(
    ['SETTING', 'VALUE', 'FROM'],
    settings.map(({ key, value, origins }) => [key, value ?? '-', origins.map(originText).join(', ')]),
  )

function originText(origin: Origin): string {
  if (origin.from === 'default') return 'default'
  if (origin.from !== 'file') return `${origin.from} ${origin.name}`
  const { file, line, section } = origin
  return `${file}:${line}${section === undefined ? '' : ` (${section})`}`
}
