import type { Command } from 'commander'
import { AgentError, formatBytes, type PointSummary } from '../core/index.ts'
import { type CliIo, printable, renderTable } from './io.ts'
import { type CommandFlags, examples, withCommon, withRepository } from './options.ts'
import type { ExitStatus } from './program.ts'

type PointsFlags = CommandFlags & { readonly rebuild?: boolean | undefined }

export function registerPoints(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withRepository(
      program.command('points').description('list restore points, oldest first').argument('[vm]', 'only of this VM: name or instance uuid'),
    ),
  )
    .option('--rebuild', 'read what is in the repository, or in all that vcb.yaml names, into the catalog')
    .addHelpText(
      'after',
      examples(['vcb points --repo /backup/vms', 'vcb points web1 --json', 'vcb points --rebuild']) +
        `
The list comes from the repository itself. The catalog, which agent, jobs and plans go by, is lost with the state directory or its database; --rebuild makes it
anew and says what it learned. Nothing in the repository changes.
`,
    )
    .action(async (vm: string | undefined, flags: PointsFlags) => {
      if (flags.rebuild === true) return rebuild(io, vm, flags, status)
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

async function rebuild(io: CliIo, vm: string | undefined, flags: PointsFlags, status: ExitStatus): Promise<void> {
  if (vm !== undefined) {
    throw new AgentError('USAGE', '--rebuild reads whole repositories, not the points of one VM.', {
      next: 'Leave out the VM or --rebuild.',
    })
  }
  const [{ withAgent }, { rebuildCatalog }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
  await withAgent(io, flags, async ({ agent, output }) => {
    const rebuilt = await rebuildCatalog(agent, { one: flags.repo !== undefined })
    if (rebuilt.some(({ error }) => error !== undefined)) status.exit = new AgentError('PARTIAL', '').exit
    output.result({ repositories: rebuilt }, () =>
      rebuilt
        .map(({ name, url, ...each }) => {
          const where = `${name} (${printable(url)})`
          if (each.error !== undefined) return `${where}: its part of the catalog stays as it was: ${printable(each.error.message)}`
          return `${where}: ${each.points} points, of which ${each.added} were not known; ${each.removed} that are gone were taken out.`
        })
        .join('\n'),
    )
  })
}
