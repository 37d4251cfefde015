import type { Command } from 'commander'
import type { CliIo } from './io.ts'
import { type CommandFlags, examples, withCommon, withRepository } from './options.ts'

export function registerInit(program: Command, io: CliIo): void {
  withCommon(withRepository(program.command('init').description('make a repository; one that exists is left as it is')))
    .addHelpText('after', examples(['vcb init --repo /backup/vms --repo-password-file /etc/vcb/repo.pw']))
    .action(async (flags: CommandFlags) => {
      const { withAgent } = await import('./session.ts')
      await withAgent(io, flags, async ({ agent, output }) => {
        const provider = await agent.provider({ init: true })
        output.result({ repository: provider.url }, ({ repository }) => `The repository ${repository} is ready.`)
      })
    })
}
