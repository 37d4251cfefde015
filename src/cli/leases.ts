import type { Command } from 'commander'
import { type CliIo, printable, renderTable } from './io.ts'
import { type CommandFlags, examples, withCommon } from './options.ts'

export function registerLeases(program: Command, io: CliIo): void {
  withCommon(program.command('leases').description('what "vcb mount" shows now, where, and until when'))
    .addHelpText(
      'after',
      examples(['vcb leases', 'vcb leases --json']) +
        '\nReads the journal of this proxy alone and changes nothing; no vCenter is needed.\n',
    )
    .action(async (flags: CommandFlags) => {
      const [{ withAgent }, { listLeases }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        const { journal, clock, processes } = agent
        const leases = await listLeases({ journal, clock, isAlive: (owner) => processes.isAlive(owner) })
        output.result({ leases }, () => {
          if (leases.length === 0) return 'There is no lease.'
          const rows = leases.map((each) => [
            each.lease,
            each.state,
            each.vm,
            each.types.join(','),
            each.directory,
            each.until,
            each.owner === undefined ? '' : String(each.owner),
            each.job ?? '',
          ])
          const left = leases
            .filter(({ state }) => state === 'left')
            .map(
              ({ lease, log }) =>
                `The holder of ${lease} has died; "vcb unmount ${lease}" releases what it held.${log === undefined ? '' : ` Its log: ${log}`}`,
            )
          return [renderTable(['LEASE', 'STATE', 'VM', 'TYPES', 'DIRECTORY', 'UNTIL', 'OWNER', 'JOB'], rows), ...left.map(printable)].join(
            '\n',
          )
        })
      })
    })
}
