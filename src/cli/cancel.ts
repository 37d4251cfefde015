import type { Command } from 'commander'
import { AgentError } from '../core/index.ts'
import { type CliIo, createOutput, printable } from './io.ts'
import { examples, withCommon } from './options.ts'
import type { ExitStatus } from './program.ts'
import { type AgentFlags, findAgent, withRunningAgent } from './running-agent.ts'

type CancelFlags = AgentFlags & { readonly all?: boolean | undefined; readonly wait?: boolean | undefined }

export function registerCancel(program: Command, io: CliIo, status: ExitStatus): void {
  const command = program
    .command('cancel')
    .description('end a running job in order: what it holds is released')
    .argument('[target]', 'a job or run by id, or a VM by name; see "vcb status"')
  withCommon(withRunningAgent(command, { alone: true }))
    .option('--all', 'every job of this proxy')
    .option('--wait', 'return when the jobs have ended')
    .addHelpText(
      'after',
      examples(['vcb cancel web01 --wait', 'vcb cancel 4f1c2a9b', 'vcb cancel --all --wait --json']) +
        `
The command that runs the job notices within a second or two and ends with 11 (12 when only some of its VMs were canceled).

Exit codes: 0 asked, or with --wait ended with nothing left; 5 nothing like that runs; 6 its process has ended already, see "vcb recover";
11 the wait was canceled; 12 a job has ended, but something of it is still held.
`,
    )
    .action(async (target: string | undefined, flags: CancelFlags) => {
      if ((target === undefined) === (flags.all !== true)) {
        throw new AgentError('USAGE', 'What is to be canceled was not said.', { next: 'Name a job, a run or a VM, or give --all.' })
      }
      // What waits in the queue of an agent is in no journal. To wait for the end of what runs is done here.
      await using client = target === undefined || flags.wait === true ? undefined : await findAgent(io, flags)
      if (client !== undefined && target !== undefined) {
        const { askCancel } = await import('../api/index.ts')
        const canceled = await askCancel(client, target, { signal: io.signal })
        createOutput(io, flags.json === true).result({ canceled }, () =>
          canceled
            .map(
              ({ id, kind, subject, ended }) =>
                `${kind} ${id}${subject === undefined ? '' : ` of ${printable(subject)}`}: ${ended ? 'canceled' : 'was asked to end'}`,
            )
            .join('\n'),
        )
        return
      }
      if (typeof flags.agent === 'string') {
        throw new AgentError('USAGE', 'An agent elsewhere is asked for one target at a time, and not waited for.', {
          next: 'Leave out --all and --wait.',
        })
      }
      const [{ withAgent }, { cancelJobs }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        const { journal, clock, processes } = agent
        const jobs = await cancelJobs({ journal, clock, isAlive: (owner) => processes.isAlive(owner) }, target, {
          wait: flags.wait === true,
          signal: io.signal,
        })
        if (jobs.some((job) => (job.held ?? 0) > 0)) status.exit = new AgentError('PARTIAL', '').exit
        output.result({ canceled: jobs }, () => {
          if (jobs.length === 0) return 'Nothing runs.'
          return jobs
            .map((job) => {
              const what = `${job.kind} job ${job.job}${job.subject === undefined ? '' : ` of ${printable(job.subject)}`}`
              if (!job.ended) return `${what}: process ${job.pid} was asked to end it`
              const left = (job.held ?? 0) > 0 ? `; ${job.held} still held, see "vcb status"` : ''
              return `${what}: ${job.outcome?.result ?? 'its process died'}${left}`
            })
            .join('\n')
        })
      })
    })
}
