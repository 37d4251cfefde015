import { type Command, Option } from 'commander'
import type { Agent, MountRunRequest } from '../agent/index.ts'
import { AgentError, formatBytes } from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import type { Mounted, MountType } from '../flow/index.ts'
import { findPoint } from './find-point.ts'
import { type CliIo, createOutput, printable } from './io.ts'
import {
  type CommandFlags,
  examples,
  guestScriptsOf,
  repeatable,
  type SnapshotFlags,
  withCommon,
  withConnection,
  withJobs,
  withRepository,
  withSnapshot,
  withTransports,
} from './options.ts'
import type { ExitStatus } from './program.ts'
import type { CommandSession } from './session.ts'

const TYPES: readonly MountType[] = ['disk', 'file', 'export']

type MountFlags = CommandFlags &
  SnapshotFlags & {
    readonly type: string
    readonly exportFormat: ExportFormat
    readonly maxHold: string
    readonly idle: string
    readonly wait?: string | undefined
    readonly ownerPid?: string | undefined
    readonly allowUser?: string | undefined
    readonly allowGroup?: string | undefined
    readonly job?: string | undefined
    readonly excludeDisk?: readonly string[] | undefined
    readonly foreground?: boolean | undefined
    readonly callerPid?: string | undefined
    readonly holderLog?: string | undefined
  }

export function registerMount(program: Command, io: CliIo, status: ExitStatus): void {
  const command = program
    .command('mount')
    .description('show the frozen disks of one VM, or a restore point, to other programs')
    .argument('<what>', 'one VM, see "vcb vms --help"; or a restore point: its id, NAME@latest, point:ID; or a disk file, vmdk:PATH')
    .argument('<dir>', 'where: an empty directory, or one that is made')
  withSnapshot(withCommon(withJobs(withTransports(withRepository(withConnection(command))))))
    .option(
      '--type <list>',
      'disk (NBD exports and raw files), file (file systems, mounted), export (VMX and VMDK files); several with commas, from one snapshot',
      'disk',
    )
    .addOption(
      new Option('--export-format <format>', 'of the disks of --type export')
        .choices(['flat', 'split-sparse', 'streamOptimized'])
        .default('flat'),
    )
    .option('--max-hold <time>', 'the lease ends by itself after so long', '12h')
    .option('--owner-pid <pid>', 'the lease ends two seconds after this process has')
    .option('--idle <time>', 'without an owner the lease ends after so long without a read; 0 = never', '30m')
    .option('--allow-user <name>', 'this user may read raw files, NBD exports and exported files; nobody but root when not set')
    .option('--allow-group <name>', 'so may the members of this group')
    .option('--job <name>', 'what the product calls its job; shown in lists')
    .option('--wait <time>', 'how long a VM that another job has is waited for; not at all when not set')
    .option('--exclude-disk <disk>', 'scsi0:1, a device key, or a glob over the file name; repeatable', repeatable)
    .option('--foreground', 'hold the lease in this command, which ends with it')
    .addOption(new Option('--caller-pid <pid>', 'the command that waits').hideHelp())
    .addOption(new Option('--holder-log <file>', 'where it logs when no log is configured').hideHelp())
    .addHelpText(
      'after',
      examples([
        'vcb mount web1 /mnt/web1',
        'vcb mount web1 /mnt/web1 --type disk --owner-pid $PPID --max-hold 6h --json',
        'vcb mount web1 /export/web1 --type export --export-format split-sparse',
        'vcb mount web1@latest /mnt/old --repo /backup/vms --repo-password-file /etc/vcb/repo.pw',
        'vcb mount moref:vm-57 /mnt/vm57 --quiesce require --wait 10m --foreground',
      ]) +
        `
Returns when everything is there, and prints the lease. A process of its own holds it until "vcb unmount", its deadline, the end of its owner, or
idleness; then everything is undone and the snapshot is removed. "vcb leases" lists what is held. See docs/mount.md.
`,
    )
    .action(async (what: string, directory: string, flags: MountFlags) => {
      const types = typesOf(flags.type)
      if (flags.foreground === true) await hold(io, status, what, directory, types, flags)
      else await start(io, status, command, [what, directory], flags)
    })
}

/** This process is the holder. */
async function hold(
  io: CliIo,
  status: ExitStatus,
  what: string,
  directory: string,
  types: readonly MountType[],
  flags: MountFlags,
): Promise<void> {
  const [{ withAgent }, { HOLDER_LOG, parseDuration, runMount }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
  const idleMs = parseDuration('--idle', flags.idle)
  const times = {
    maxHoldMs: parseDuration('--max-hold', flags.maxHold),
    idleMs: idleMs === 0 ? undefined : idleMs,
    waitMs: flags.wait === undefined ? 0 : parseDuration('--wait', flags.wait),
  }
  const logged = flags.holderLog === undefined ? undefined : { level: 'info', file: flags.holderLog, bounded: HOLDER_LOG }
  const work = async ({ agent, output }: CommandSession): Promise<void> => {
    const run = await runMount(agent, {
      from: await sourceOf(agent, what, io.signal),
      directory,
      types,
      allow: { user: flags.allowUser, group: flags.allowGroup },
      exportFormat: flags.exportFormat,
      quiesce: agent.config.quiesce,
      guestScripts: guestScriptsOf(flags),
      excludeDisks: flags.excludeDisk ?? [],
      ...times,
      ownerPid: pidOf('--owner-pid', flags.ownerPid),
      callerPid: pidOf('--caller-pid', flags.callerPid),
      job: flags.job,
      log: flags.holderLog ?? agent.config.logFile,
      onReady: async (mounted) => output.result(mounted, describe),
    })
    output.note(`The lease has ended: ${printable(run.end.reason)}`)
    const broken = run.disks.find(({ readErrors }) => readErrors > 0)
    if (broken !== undefined) output.note(`A reader of ${broken.label} got an error instead of data: ${printable(broken.readError ?? '')}`)
    if (run.stillHeld !== undefined) output.note(printable(`${run.stillHeld.message} ${run.stillHeld.next}`))
    if (broken !== undefined) status.exit = new AgentError('INTEGRITY', '').exit
    else if (run.stillHeld !== undefined) status.exit = new AgentError('PARTIAL', '').exit
  }
  await withAgent(io, flags, work, undefined, logged)
}

/** Another process becomes the holder; this one waits until everything is there. */
async function start(io: CliIo, status: ExitStatus, command: Command, words: readonly string[], flags: MountFlags): Promise<void> {
  const [{ startMount }, { readStatePlaces }] = await Promise.all([import('./start-mount.ts'), import('../agent/index.ts')])
  const json = flags.json === true
  const input = flags.passwordFile === '-' || flags.repoPasswordFile === '-' ? process.stdin : undefined
  const log = await readStatePlaces(flags, io.environment)
  const answer = await startMount(io, { flags: givenFlags(command), words, input, log })
  if (answer.mounted !== undefined) createOutput(io, json).result(answer.mounted, describe)
  else if (answer.said !== undefined && json) {
    io.out(answer.said)
    status.exit = answer.error.exit
  } else throw answer.error
}

/** The flags of this command line as it was given, for another one. */
function givenFlags(command: Command): readonly string[] {
  return command.options.flatMap((option) => {
    const name = option.attributeName()
    const flag = option.long ?? ''
    if (command.getOptionValueSource(name) !== 'cli' || ['json', 'foreground', 'callerPid', 'holderLog'].includes(name)) return []
    const value: unknown = command.getOptionValue(name)
    if (typeof value === 'boolean') return [flag]
    return (Array.isArray(value) ? value : [value]).map((each) => `${flag}=${String(each)}`)
  })
}

function typesOf(list: string): readonly MountType[] {
  const asked = [...new Set(list.split(',').map((each) => each.trim()))]
  const known = TYPES.filter((type) => asked.includes(type))
  const unknown = asked.find((each) => !TYPES.some((type) => type === each))
  if (unknown !== undefined) {
    throw new AgentError('USAGE', `There is no mount type "${unknown}".`, { subject: unknown, next: `Choose from ${TYPES.join(', ')}.` })
  }
  return known
}

/** A point where the text can be nothing else; a VM of such a name is meant by `name:`. */
async function sourceOf(agent: Agent, what: string, signal: AbortSignal): Promise<MountRunRequest['from']> {
  const vmdk = /^vmdk:(.+)$/s.exec(what)?.[1]
  if (vmdk !== undefined) return { vmdk }
  const named =
    /^point:(.+)$/s.exec(what)?.[1] ?? (/^(?![a-z]+:).+@latest$/s.test(what) || /^[0-9a-f]{8,64}$/.test(what) ? what : undefined)
  return named === undefined ? { expression: what } : { point: await findPoint(await agent.points(), named, signal) }
}

function pidOf(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text)
  throw new AgentError('USAGE', `The value of ${flag} is no process id: "${text}".`, { subject: text })
}

function describe(mounted: Mounted): string {
  const { vm, directory, lease, until } = mounted
  const of =
    mounted.point === undefined ? printable(vm.name) : `${printable(vm.name)}, point ${mounted.point.slice(0, 8)} of ${mounted.time}`
  const lines = [`${of} is shown in ${printable(directory)} until ${until}`, `    lease ${lease}, ${mounted.consistency}-consistent`]
  for (const disk of mounted.disks) {
    const way = disk.transport === undefined ? '' : ` by ${disk.transport}`
    lines.push(
      `    ${disk.label}  ${formatBytes(disk.bytes)}${way}${[disk.file, disk.exported, disk.nbdUri].map((at) => (at === undefined ? '' : `  ${printable(at)}`)).join('')}`,
    )
  }
  for (const each of mounted.volumes)
    lines.push(
      `    ${each.path.map((path) => printable(`${directory}/${path}`)).join(', ')}  ${each.type}${each.label === undefined ? '' : `  ${printable(each.label)}`}`,
    )
  for (const ran of mounted.guestScripts?.runs ?? []) {
    const end = ran.timedOut === true ? 'ended because its time was over' : (ran.error ?? `exit ${ran.exitCode ?? 'unknown'}`)
    lines.push(`    ${printable(ran.script)} ${ran.argument}  ${printable(end)}  ${(ran.ms / 1000).toFixed(1)} s`)
  }
  for (const left of mounted.notMounted) lines.push(`    ${printable(left.what)}  NOT SHOWN  ${printable(left.reason)}`)
  for (const warning of mounted.warnings) lines.push(`    warning: ${printable(warning)}`)
  lines.push(`    vcb unmount ${lease}  ends it`)
  return lines.join('\n')
}
