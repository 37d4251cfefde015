import type { Command } from 'commander'
import { AgentError } from '../core/index.ts'
import { findPoint } from './find-point.ts'
import { type CliIo, printable } from './io.ts'
import { type CommandFlags, examples, withCommon, withRepository } from './options.ts'
import type { ExitStatus } from './program.ts'

type CheckFlags = CommandFlags & { readonly structureOnly?: boolean; readonly dataShare?: string }

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
    .option('--data-share <share>', 'read only a share of the data: 3/28 is the third of 28 shares, 5% another one each time')
    .addHelpText('after', examples(['vcb check --repo /backup/vms', 'vcb check --data-share 3/28', 'vcb check web1@latest --json']))
    .action(async (text: string | undefined, flags: CheckFlags) => {
      const [{ withAgent }, { parseDataShare, runCheck, shortPoints }] = await Promise.all([
        import('./session.ts'),
        import('../agent/index.ts'),
      ])
      const share = flags.dataShare
      if (share !== undefined && (text !== undefined || flags.structureOnly === true)) {
        throw new AgentError('USAGE', '--data-share is a share of the whole repository.', {
          next: 'Leave out the point and --structure-only, or --data-share.',
        })
      }
      await withAgent(io, flags, async ({ agent, output }) => {
        const random = (): number => Buffer.from(agent.random(4)).readUInt32LE() / 2 ** 32
        const slices = share === undefined ? undefined : await parseDataShare(share, random)
        const store = await agent.points()
        let id: import('../core/index.ts').PointId | undefined
        if (text !== undefined) {
          await using reader = await store.open(await findPoint(store, text, io.signal), { signal: io.signal })
          id = reader.id
        }
        const problems = await runCheck(agent, { point: id, readData: flags.structureOnly !== true, slices })
        if (problems.length > 0) status.exit = new AgentError('INTEGRITY', '').exit
        const short = (await shortPoints(agent)).filter(({ snapshot }) => id === undefined || snapshot === id)
        const locks =
          short.length === 0
            ? []
            : [
                `${short.length} points need what is kept shorter than they are to be; "vcb renew-locks --dry-run" names them, and without the flag mends it.`,
              ]
        output.result({ point: id, problems, short }, () =>
          [
            ...(problems.length === 0
              ? [`${id === undefined ? 'The repository' : `Point ${id.slice(0, 8)}`} is sound.`]
              : problems.map(
                  (problem) => `${problem.point === undefined ? '' : `point ${problem.point.slice(0, 8)}: `}${printable(problem.what)}`,
                )),
            ...locks,
          ].join('\n'),
        )
      })
    })
}
