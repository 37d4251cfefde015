import { type Command, Option } from 'commander'
import { AgentError, systemClock } from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import { findPoint } from './find-point.ts'
import { type CliIo, printable } from './io.ts'
import { type CommandFlags, examples, repeatable, withCommon, withConnection, withJobs, withRepository } from './options.ts'
import { createProgress } from './progress.ts'
import type { ExitStatus } from './program.ts'

type RestoreFlags = CommandFlags & {
  readonly toDir?: string
  readonly format: ExportFormat
  readonly toVcenter?: boolean
  readonly name?: string
  readonly disk?: readonly string[]
  readonly datacenter?: string
  readonly folder?: string
  readonly host?: string
  readonly cluster?: string
  readonly resourcePool?: string
  readonly toDatastore?: string
  readonly network?: readonly string[]
  readonly overwrite?: boolean
  readonly powerOn?: boolean
  readonly transport?: string
  readonly via?: 'lease' | 'folder'
  readonly keepIdentity?: boolean
}

export function registerRestore(program: Command, io: CliIo, status: ExitStatus): void {
  const command = program
    .command('restore')
    .description('bring a restore point back, as a VM folder or as a VM in vSphere')
    .argument('<point>', 'id, beginning of one, or NAME@latest')
  withCommon(withJobs(withRepository(withConnection(command))))
    .option('--to-dir <dir>', 'write VMX and VMDK files into this new directory')
    .addOption(
      new Option('--format <format>', 'of the disks in --to-dir').choices(['flat', 'split-sparse', 'streamOptimized']).default('flat'),
    )
    .option('--to-vcenter', 'make a VM on the vCenter or ESXi of the connection')
    .option('--name <name>', 'name of the restored VM; the old one when not given')
    .option('--disk <label>', 'only this disk; repeatable', repeatable)
    .option('--datacenter <name>', 'target datacenter')
    .option('--folder <path>', 'target folder')
    .option('--host <name>', 'target host')
    .option('--cluster <name>', 'target cluster')
    .option('--resource-pool <name>', 'target resource pool')
    .option('--to-datastore <name>', 'target datastore')
    .option('--network <old=new>', 'network for the cards of an old one; repeatable', repeatable)
    .option(
      '--transport <list>',
      'ways to vSphere, tried in this order (VCB_RESTORE_TRANSPORT); lease:nbdssl:https when not set. lease imports the VM, https uploads its ' +
        'files (thin becomes thick), nbdssl, nbd, hotadd and ssh write its disks; all but https send only what is allocated',
    )
    .addOption(new Option('--via <way>', 'one way alone: import lease or datastore files (--transport https)').choices(['lease', 'folder']))
    .option('--overwrite', 'replace the powered-off VM of this name in the target folder')
    .option('--keep-identity', 'keep uuids and MAC addresses')
    .option('--power-on', 'power the VM on when it is restored')
    .addHelpText(
      'after',
      examples([
        'vcb restore web1@latest --to-dir /restore/web1 --format streamOptimized',
        'vcb restore 4f1c2a9b --to-vcenter --name web1-copy --to-datastore ssd2 --host esx2',
        'vcb restore web1@latest --to-vcenter --name web1-copy --transport nbdssl',
        'vcb restore web1@latest --to-vcenter --name web1-copy --transport hotadd:nbdssl:lease',
        'vcb restore web1@latest --to-vcenter --overwrite --keep-identity --power-on --network "VM Network=DMZ"',
      ]),
    )
    .action(async (text: string, flags: RestoreFlags) => {
      if ((flags.toDir === undefined) === (flags.toVcenter !== true)) {
        throw new AgentError('USAGE', 'A restore needs one target.', { next: 'Give either --to-dir DIR or --to-vcenter.' })
      }
      if (flags.transport !== undefined && flags.via !== undefined)
        throw new AgentError('USAGE', 'Both --transport and --via were given.', {
          next: 'Give --transport alone; --via folder is --transport https.',
        })
      const [{ withAgent }, { runDirectoryRestore, runVmRestore }] = await Promise.all([
        import('./session.ts'),
        import('../agent/index.ts'),
      ])
      const { transport, via, ...rest } = flags
      const restoreTransport = via === 'folder' ? 'https' : (via ?? transport)
      await withAgent(io, { ...rest, restoreTransport }, async ({ agent, output }) => {
        using progress = await createProgress(io, systemClock, flags.json !== true)
        const onProgress = (at: { disk: string; doneBytes: number; totalBytes: number }): void =>
          progress.update(at.disk, at.doneBytes, at.totalBytes)
        const store = await agent.points()
        const point = await findPoint(store, text, io.signal)
        const disks = flags.disk ?? []
        if (flags.toDir !== undefined) {
          const result = await runDirectoryRestore(
            agent,
            { point, directory: flags.toDir, format: flags.format, name: flags.name, disks },
            { onProgress },
          )
          warnLeftOut(status, result.notProtected)
          output.result(result, () =>
            [`Restored to ${result.directory}`, ...result.files.map((file) => `    ${file.name}`), ...left(result)].join('\n'),
          )
          return
        }
        const { datacenter, folder, host, cluster, resourcePool } = flags
        const result = await runVmRestore(
          agent,
          {
            point,
            name: flags.name,
            placement: { datacenter, folder, host, cluster, resourcePool, datastore: flags.toDatastore },
            networks: parseNetworks(flags.network ?? []),
            overwrite: flags.overwrite === true,
            powerOn: flags.powerOn === true,
            transports: agent.config.restoreTransports,
            keepIdentity: flags.keepIdentity === true,
            disks,
          },
          { onProgress },
        )
        warnLeftOut(status, result.notProtected)
        output.result(result, () =>
          [
            `Restored ${printable(result.vm.name)} (${result.vm.moref}) on datastore ${result.datastore}${result.host === undefined ? '' : `, host ${result.host}`}, by ${waysOf(result.disks)}${result.poweredOn ? ', powered on' : ''}`,
            ...refusals(result.disks),
            ...result.warnings.map((warning) => `    warning: ${printable(warning)}`),
            ...left(result),
          ].join('\n'),
        )
      })
    })
}

type Restored = {
  readonly label: string
  readonly transport: string
  readonly refused: readonly { readonly transport: string; readonly reason: string }[]
}

const waysOf = (disks: readonly Restored[]): string =>
  [...new Set(disks.map(({ transport }) => transport))].join(' and ') || 'configuration alone'

/** What was refused for all disks is said once. */
function refusals(disks: readonly Restored[]): readonly string[] {
  const lines = new Set<string>()
  for (const { label, refused } of disks)
    for (const { transport, reason } of refused) {
      const everywhere = disks.every((disk) => disk.refused.some((each) => each.transport === transport && each.reason === reason))
      lines.add(`    refused: ${transport}${everywhere ? '' : ` for ${label}`}, ${printable(reason)}`)
    }
  return [...lines]
}

function parseNetworks(pairs: readonly string[]): Readonly<Record<string, string>> {
  const networks: Record<string, string> = {}
  for (const pair of pairs) {
    const at = pair.indexOf('=')
    if (at <= 0 || at === pair.length - 1)
      throw new AgentError('USAGE', `"${pair}" does not map a network.`, { next: 'Write --network "OLD=NEW".' })
    networks[pair.slice(0, at)] = pair.slice(at + 1)
  }
  return networks
}

type LeftOut = {
  readonly dropped: readonly string[]
  readonly notProtected: readonly { readonly disk: string; readonly reason: string; readonly excluded?: boolean | undefined }[]
}

const left = (result: LeftOut): readonly string[] => [
  ...result.dropped.map((device) => `    not restored: ${printable(device)}`),
  ...result.notProtected.map((disk) => `    not in the point: ${disk.disk}, ${printable(disk.reason)}`),
]

function warnLeftOut(status: ExitStatus, notProtected: LeftOut['notProtected']): void {
  if (notProtected.some((disk) => disk.excluded !== true)) status.exit = new AgentError('PARTIAL', '').exit
}
