import type { Command } from 'commander'
import { formatBytes, type PointSummary } from '../core/index.ts'
import { type CliIo, renderTable } from './io.ts'
import { type CommandFlags, examples, withCommon, withRepository } from './options.ts'

export function registerPoints(program: Command, io: CliIo): void {
  withCommon(
    withRepository(
      program.command('points').description('list restore points, oldest first').argument('[vm]', 'only of this VM: name or instance uuid'),
    ),
  )
    .addHelpText('after', examples(['vcb points --repo /backup/vms', 'vcb points web1 --json']))
    .action(async (vm: string | undefined, flags: CommandFlags) => {
      const { withAgent } = await import('./session.ts')
      await withAgent(io, flags, async ({ agent, output }) => {
        const store = await agent.points()
        const points: PointSummary[] = []
        for await (const point of store.list({ signal: io.signal })) {
          if (vm === undefined || point.vmName === vm || point.instanceUuid === vm) points.push(point)
        }
        points.sort((a, b) => Date.parse(a.time) - Date.parse(b.time))
        output.result({ points }, () =>
          renderTable(
            ['POINT', 'TIME', 'VM', 'MODE', 'CONSISTENCY', 'SIZE', 'READ', 'STORED', 'NOT PROTECTED'],
            points.map((point) => [
              point.id.slice(0, 8),
              point.time,
              point.vmName,
              point.mode,
              point.consistency,
              formatBytes(point.totalBytes),
              formatBytes(point.readBytes),
              formatBytes(point.storedBytes),
              point.notProtected === 0 ? '' : `${point.notProtected} disks`,
            ]),
          ),
        )
      })
    })
}
