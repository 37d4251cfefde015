import { type Command, Option } from 'commander'
import type { ApiClient } from '../api/index.ts'
import { AgentError, type BackupMode, formatBytes, systemClock } from '../core/index.ts'
import { type CliIo, createOutput, errorJson, printable, renderTable } from './io.ts'
import { examples, repeatable, withCommon } from './options.ts'
import type { ExitStatus } from './program.ts'
import { type AgentFlags, needAgent, withRunningAgent } from './running-agent.ts'

type RunFlags = AgentFlags & { readonly vm?: readonly string[]; readonly mode?: BackupMode; readonly wait?: boolean }

/** How often it is asked whether the runs have ended, ms. */
const LOOK_MS = 1000

export function registerRun(program: Command, io: CliIo, status: ExitStatus): void {
  const command = program
    .command('run')
    .description('have the running agent back up now: all VMs of a job, or some')
    .argument('[job]', 'a job of its vcb.yaml')
  withCommon(withRunningAgent(command, { alone: false }))
    .option('--vm <expression>', 'only VMs that this selects, or without a job these; repeatable', repeatable)
    .addOption(new Option('--mode <mode>', 'full or incremental, instead of what the job says').choices(['full', 'incremental']))
    .option('--wait', 'return when the runs have ended, and say how')
    .addHelpText(
      'after',
      examples([
        'vcb run production --wait',
        'vcb run --vm "web*" --mode full',
        'vcb run production --agent https://proxy2:8443 --token-file token --agent-ca-file proxy2.pem',
      ]) +
        `
Needs an agent that runs; "vcb backup" backs up without one.

Exit codes: 0 the runs are in the queue, or with --wait all succeeded; 7 no agent answers; 12 some failed.
`,
    )
    .action(async (job: string | undefined, flags: RunFlags) => {
      if (job === undefined && flags.vm === undefined) {
        throw new AgentError('USAGE', 'What is to be backed up was not said.', { next: 'Name a job, or VMs with --vm.' })
      }
      const { askRun } = await import('../api/index.ts')
      await using client = await needAgent(io, flags)
      const output = createOutput(io, flags.json === true)
      const select = flags.vm === undefined ? undefined : [...flags.vm]
      const { runs } = await askRun(client, { job, select, mode: flags.mode }, { signal: io.signal })
      if (flags.wait !== true) {
        output.result({ runs }, () =>
          runs.length === 0
            ? 'No VM fits.'
            : renderTable(
                ['RUN', 'VM'],
                runs.map(({ run, vm }) => [run, vm.name]),
              ),
        )
        return
      }
      output.note(`${runs.length} ${runs.length === 1 ? 'run is' : 'runs are'} in the queue of ${client.name}.`)
      const ended = await untilEnded(client, runs, io.signal)
      if (ended.some(({ result }) => result !== 'succeeded')) status.exit = new AgentError('PARTIAL', '').exit
      output.result({ runs: ended }, () =>
        renderTable(
          ['RUN', 'VM', 'RESULT', 'READ', 'STORED', 'WHY'],
          ended.map(({ run, vm, result, readBytes, storedBytes, error }) => [
            run,
            vm,
            result,
            formatBytes(readBytes),
            formatBytes(storedBytes),
            printable(error?.message ?? ''),
          ]),
        ),
      )
    })
}

type Ended = {
  readonly run: string
  readonly vm: string
  readonly result: 'succeeded' | 'failed' | 'canceled' | 'lost'
  readonly readBytes: number
  readonly storedBytes: number
  readonly error?: { readonly code: string; readonly message: string } | undefined
}

/** By asking again and again, which outlives an agent that is started anew. A run that is in no list any more is lost: the agent forgot it. */
async function untilEnded(
  client: ApiClient,
  runs: readonly { readonly run: string; readonly vm: { readonly name: string } }[],
  signal: AbortSignal,
): Promise<readonly Ended[]> {
  const { askHistory, askStatus } = await import('../api/index.ts')
  const ended = new Map<string, Ended>()
  const missing = new Map<string, number>()
  for (;;) {
    const { waiting, running } = await askStatus(client, { signal })
    const open = new Set([...waiting, ...running].map(({ run }) => run))
    const records = await askHistory(client, { limit: String(Math.min(10_000, Math.max(1000, runs.length * 2))) }, { signal })
    for (const { run, vm, result, readBytes, storedBytes, error } of records)
      ended.set(run, { run, vm: vm.name, result, readBytes, storedBytes, error })
    for (const { run, vm } of runs) {
      if (open.has(run) || ended.has(run)) continue
      const times = (missing.get(run) ?? 0) + 1
      missing.set(run, times)
      if (times < 3) continue
      const error = errorJson(new AgentError('UNAVAILABLE', 'The agent knows nothing of this run any more.'))
      ended.set(run, { run, vm: vm.name, result: 'lost', readBytes: 0, storedBytes: 0, error })
    }
    const all = runs.flatMap(({ run }) => ended.get(run) ?? [])
    if (all.length === runs.length) return all
    await systemClock.sleep(LOOK_MS, { signal })
  }
}
