import { type Command, Option } from 'commander'
import { AgentError, type RunRecord } from '../core/index.ts'
import type { CliIo } from './io.ts'
import { type CommandFlags, examples, withCommon } from './options.ts'
import { runTable } from './run-table.ts'

type HistoryFlags = CommandFlags & {
  readonly job?: string
  readonly vm?: string
  readonly result?: RunRecord['result']
  readonly since?: string
  readonly until?: string
  readonly limit?: string
}

const SOME = 50
const MOST = 100_000

export function registerHistory(program: Command, io: CliIo): void {
  withCommon(program.command('history').description('how backups ended, those of jobs and those by hand; the last one first'))
    .option('--job <name>', 'only runs of this job')
    .option('--vm <name>', 'only of this VM, by name, path, moref or instance uuid')
    .addOption(new Option('--result <result>', 'only these').choices(['succeeded', 'failed', 'canceled']))
    .option('--since <time>', 'that ended at this moment or later, ISO 8601, or so long ago, like 7d')
    .option('--until <time>', 'that ended before')
    .option('--limit <n>', `at most so many; ${SOME} when not given`)
    .addHelpText('after', examples(['vcb history --since 24h', 'vcb history --vm web01 --result failed --json']))
    .action(async (flags: HistoryFlags) => {
      const [{ withAgent }, { parseDuration }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        const momentOf = (name: string, text: string | undefined): Date | undefined => {
          if (text === undefined) return undefined
          if (/^\d{4}-/u.test(text)) {
            const moment = new Date(text)
            if (!Number.isNaN(moment.getTime())) return moment
            throw new AgentError('USAGE', `${name} ${text} is no moment.`, { next: 'Write it like 2026-11-26T22:00:00Z, or 7d.' })
          }
          return new Date(agent.clock.now().getTime() - parseDuration(name, text))
        }
        const runs = await agent.history.find({
          job: flags.job,
          vm: flags.vm,
          result: flags.result,
          since: momentOf('--since', flags.since),
          until: momentOf('--until', flags.until),
          limit: limitOf(flags.limit),
        })
        output.result({ runs }, () => (runs.length === 0 ? 'No run is remembered.' : runTable(runs)))
      })
    })
}

function limitOf(text: string | undefined): number {
  const limit = Number(text ?? SOME)
  if (Number.isInteger(limit) && limit >= 1 && limit <= MOST) return limit
  throw new AgentError('USAGE', `--limit takes a number from 1 to ${MOST}.`, { next: 'Write --limit 100.' })
}
