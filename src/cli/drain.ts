import type { Command } from 'commander'
import { type CliIo, createOutput } from './io.ts'
import { examples, withCommon } from './options.ts'
import { type AgentFlags, needAgent, withRunningAgent } from './running-agent.ts'

/** Orders to a running agent about itself. */
export function registerDrain(program: Command, io: CliIo): void {
  withCommon(
    withRunningAgent(program.command('drain').description('have the running agent begin nothing new; what runs ends in its time'), {
      alone: false,
    }),
  )
    .option('--off', 'have it begin again')
    .addHelpText('after', examples(['vcb drain', 'vcb drain --off']))
    .action(async (flags: AgentFlags & { readonly off?: boolean }) => {
      const { askDrain } = await import('../api/index.ts')
      await using client = await needAgent(io, flags)
      const answer = await askDrain(client, flags.off !== true, { signal: io.signal })
      createOutput(io, flags.json === true).result(answer, ({ draining }) =>
        draining ? 'The agent begins nothing new.' : 'The agent begins what is due.',
      )
    })
  withCommon(withRunningAgent(program.command('reload').description('have the running agent read its vcb.yaml again'), { alone: false }))
    .addHelpText('after', examples(['vcb config check && vcb reload']))
    .action(async (flags: AgentFlags) => {
      const { askReload } = await import('../api/index.ts')
      await using client = await needAgent(io, flags)
      const answer = await askReload(client, { signal: io.signal })
      createOutput(io, flags.json === true).result(answer, ({ changed }) =>
        changed.length === 0 ? 'Nothing has changed.' : `Changed: ${changed.join(', ')}.`,
      )
    })
}
