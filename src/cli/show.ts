import type { Command } from 'commander'
import { formatBytes, type Manifest, type SelectedBy } from '../core/index.ts'
import { findPoint } from './find-point.ts'
import { type CliIo, printable, renderTable } from './io.ts'
import { type CommandFlags, examples, withCommon, withRepository } from './options.ts'

export function registerShow(program: Command, io: CliIo): void {
  withCommon(
    withRepository(
      program
        .command('show')
        .description('everything a restore point holds and does not hold')
        .argument('<point>', 'id, beginning of one, or NAME@latest'),
    ),
  )
    .addHelpText('after', examples(['vcb show 4f1c2a9b --repo /backup/vms', 'vcb show web1@latest --json']))
    .action(async (text: string, flags: CommandFlags) => {
      const { withAgent } = await import('./session.ts')
      await withAgent(io, flags, async ({ agent, output }) => {
        const store = await agent.points()
        await using reader = await store.open(await findPoint(store, text, io.signal), { signal: io.signal })
        output.result({ id: reader.id, ...reader.manifest }, () => describe(reader.id, reader.manifest))
      })
    })
}

const SELECTED_BY: Readonly<Record<SelectedBy, string>> = {
  changedAreas: 'changed areas',
  allocated: 'all allocated',
  digests: 'digests compared',
}

function describe(id: string, manifest: Manifest): string {
  const { vm, config } = manifest
  const facts: readonly (readonly [string, string])[] = [
    ['Point', id],
    ['VM', `${vm.name}  (${vm.path}, instance uuid ${vm.instanceUuid})`],
    ['Time', manifest.time],
    ['Mode', `${manifest.mode}${manifest.parent === undefined ? '' : ` on ${manifest.parent.slice(0, 8)}`}, run ${manifest.run}`],
    ['Consistency', `${manifest.consistency}: ${manifest.consistencyReason}`],
    ['Guest', `${config.guestFullName}, ${config.numCpu} CPU, ${config.memoryMb} MB, ${config.firmware}, ${config.hardwareVersion}`],
    ['Files', manifest.files.map((file) => `${file.name} (${formatBytes(file.size)})`).join(', ') || 'none'],
  ]
  const disks = renderTable(
    ['DISK', 'SIZE', 'MODE', 'SELECTED BY', 'WHY', 'TRANSPORT', 'CHANGED', 'READ', 'STORED'],
    manifest.disks.map((disk) => [
      disk.label,
      formatBytes(disk.capacityBytes),
      disk.mode,
      disk.selectedBy === undefined ? '' : SELECTED_BY[disk.selectedBy],
      disk.modeReason,
      disk.transport,
      formatBytes(disk.changedBytes),
      formatBytes(disk.readBytes),
      formatBytes(disk.storedBytes),
    ]),
  )
  const chosen = manifest.disks.flatMap((disk) => [
    `${disk.label}: read by ${disk.transport}: ${printable(disk.transportReason)}`,
    ...(disk.digestedBytes === undefined
      ? []
      : [`${disk.label}: ${formatBytes(disk.digestedBytes)} were hashed at the source, ${formatBytes(disk.readBytes)} transferred`]),
    ...disk.refused.map((each) => `${disk.label}: ${each.transport} was refused: ${printable(each.reason)}`),
  ])
  const left = manifest.notProtected.map((disk) => `${disk.disk}  NOT PROTECTED  ${printable(disk.reason)}`)
  return [...facts.map(([name, value]) => `${`${name}:`.padEnd(13)}${printable(value)}`), '', disks, ...chosen, ...left].join('\n')
}
