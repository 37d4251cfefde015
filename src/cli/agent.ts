import type { Command } from 'commander'
import { AgentError, type RunRecord } from '../core/index.ts'
import type { CliIo } from './io.ts'
import { type CommandFlags, examples, withCommon, withConnection, withJobs, withRepository } from './options.ts'
import type { ExitStatus } from './program.ts'
import { runTable } from './run-table.ts'

type RunningFlags = CommandFlags & { readonly once?: boolean; readonly grace?: string; readonly api?: boolean }

export function registerAgent(program: Command, io: CliIo, status: ExitStatus, version: string): void {
  withCommon(
    withJobs(
      withRepository(
        withConnection(program.command('agent').description('run the jobs of vcb.yaml as they are due, until a signal ends it')),
      ),
    ),
  )
    .option('--once', 'run what is due now, and end')
    .option('--grace <time>', 'how long running backups may go on after the signal; 5m when not set (agent.grace)')
    .option('--no-api', 'do not open the control API')
    .addHelpText(
      'after',
      examples(['vcb agent --config /etc/vcb/vcb.yaml', 'vcb agent --once --json', 'vcb agent --grace 30m']) +
        `
One agent runs for one state directory. The first signal lets what runs end in its time and begins nothing new; the second cancels what runs, and releases what it
holds. SIGHUP reads vcb.yaml again, as "vcb reload" does. "vcb status", "vcb watch", "vcb run" and "vcb drain" talk to it. See docs/agent.md.

Exit codes: 0 it was told to end, 6 another agent runs, 12 with --once: some runs failed.
`,
    )
    .action(async (flags: RunningFlags) => {
      const [{ withAgent }, { createSupervisor, loadConfig, serveJobs }] = await Promise.all([
        import('./session.ts'),
        import('../agent/index.ts'),
      ])
      const cancel = new AbortController()
      let reload: (() => void) | undefined
      using _hangup = flags.once === true ? undefined : io.onHangup?.(() => reload?.())
      // The second signal: what runs is canceled. The third ends the process as any other.
      io.giveUp?.addEventListener('abort', () => cancel.abort(io.giveUp?.reason), { once: true })
      await withAgent(
        { ...io, signal: cancel.signal, giveUp: undefined },
        flags,
        async ({ agent, output }) => {
          const { clock, log } = agent
          await using supervisor = createSupervisor({ environment: io.environment, clock, log })
          const records = await serveJobs(agent, {
            stop: io.signal,
            cancel: () => cancel.abort(new AgentError('CANCELED', 'The time that running backups had is over.')),
            once: flags.once === true,
            api: flags.api !== false && flags.once !== true,
            load: () => loadConfig(flags, io.environment),
            supervisor,
            onReloadable: (run) => {
              reload = run
            },
            version,
            onReady: (where) => output.note(where === undefined ? 'The agent runs.' : `The agent runs; it listens at ${where}.`),
          })
          if (flags.once !== true) return
          if (records.some(({ result }) => result !== 'succeeded')) status.exit = new AgentError('PARTIAL', '').exit
          output.result({ runs: records }, () => describe(records))
        },
        undefined,
        { kind: 'agent' },
      )
    })
}

const describe = (records: readonly RunRecord[]): string => (records.length === 0 ? 'Nothing was due.' : runTable(records))
