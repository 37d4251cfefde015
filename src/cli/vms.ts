import type { Command } from 'commander'
import { formatBytes } from '../core/index.ts'
import type { VmRow } from '../inventory/index.ts'
import { type CliIo, renderTable } from './io.ts'
import { type CommandFlags, examples, withCommon, withConnection } from './options.ts'

export function registerVms(program: Command, io: CliIo): void {
  withCommon(
    withConnection(
      program
        .command('vms')
        .description('list the VMs an expression names')
        .argument('[expression...]', 'name, glob, folder:, tag:, uuid:, moref:, ip:, power:, !exclusion'),
    ),
  )
    .addHelpText('after', examples(['vcb vms', 'vcb vms "web*" "!web-test"', 'vcb vms folder:/DC/vm/prod power:on --json']))
    .action(async (expressions: string[], flags: CommandFlags) => {
      const [{ withAgent }, { listVms }] = await Promise.all([import('./session.ts'), import('../inventory/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        const vsphere = await agent.vsphere()
        const rows: VmRow[] = []
        for await (const row of listVms(vsphere, expressions.length === 0 ? undefined : expressions, { signal: io.signal })) rows.push(row)
        output.result({ vms: rows }, () =>
          renderTable(
            ['NAME', 'POWER', 'DISKS', 'SIZE', 'CHANGE TRACKING', 'TOOLS', 'SNAPSHOTS', 'HOST', 'PROBLEM'],
            rows.map((row) => [
              row.vm.name,
              row.powerState.replace('powered', '').toLowerCase(),
              String(row.disks),
              formatBytes(row.capacityBytes),
              row.changeTracking,
              row.toolsRunning ? 'running' : '-',
              String(row.snapshots),
              row.host,
              row.problem ?? '',
            ]),
          ),
        )
      })
    })
}
