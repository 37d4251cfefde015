import type { Command } from 'commander'
import { AgentError } from '../core/index.ts'
import { findPoint } from './find-point.ts'
import { type CliIo, printable } from './io.ts'
import { type CommandFlags, examples, withCommon, withRepository } from './options.ts'
import type { ExitStatus } from './program.ts'

export function registerCheck(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withRepository(
      program
        .command('check')
        .description('read a restore point, or the whole repository, and verify it')
        .argument('[point]', 'id or NAME@latest; all when not given'),
    ),
  )
    .option('--structure-only', 'do not read the data itself')
    .addHelpText('after', examples(['vcb check --repo /backup/vms', 'vcb check web1@latest --json']))
    .action(async (text: string | undefined, flags: CommandFlags & { readonly structureOnly?: boolean }) => {
      const [{ withAgent }, { runCheck }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        const store = await agent.points()
        let id: import('../core/index.ts').PointId | undefined
        if (text !== undefined) {
          await using reader = await store.open(await findPoint(store, text, io.signal), { signal: io.signal })
          id = reader.id
        }
        const problems = await runCheck(agent, { point: id, readData: flags.structureOnly !== true })
        if (problems.length > 0) status.exit = new AgentError('INTEGRITY', '').exit
        output.result({ point: id, problems }, () =>
          problems.length === 0
            ? `${id === undefined ? 'The repository' : `Point ${id.slice(0, 8)}`} is sound.`
            : problems
                .map((problem) => `${problem.point === undefined ? '' : `point ${problem.point.slice(0, 8)}: `}${printable(problem.what)}`)
                .join('\n'),
        )
      })
    })
}
