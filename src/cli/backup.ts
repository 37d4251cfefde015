import { type Command, Option } from 'commander'
import type { VmOutcome } from '../agent/index.ts'
import { AgentError, type BackupMode, type DiskFacts, formatBytes, systemClock } from '../core/index.ts'
import { forecastJson, forecastText } from './backup-forecast.ts'
import { type CliIo, errorJson, heldJson, printable } from './io.ts'
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
import { createProgress } from './progress.ts'
import type { ExitStatus } from './program.ts'

type BackupFlags = CommandFlags &
  SnapshotFlags & {
    readonly mode: 'auto' | BackupMode
    readonly excludeDisk?: readonly string[] | undefined
    readonly bulk?: boolean | undefined
    readonly init?: boolean | undefined
    readonly dryRun?: boolean | undefined
  }

export function registerBackup(program: Command, io: CliIo, status: ExitStatus): void {
  const command = program
    .command('backup')
    .description('take a restore point of each VM an expression names')
    .argument('<expression...>', 'VMs; see "vcb vms --help"')
  withCommon(withJobs(withTransports(withRepository(withConnection(command)))))
  withSnapshot(
    command.addOption(
      new Option('--mode <mode>', 'auto builds on the last point where that is safe')
        .choices(['auto', 'full', 'incremental'])
        .default('auto'),
    ),
  )
    .option('--exclude-disk <disk>', 'scsi0:1, a device key, or a glob over the file name; repeatable', repeatable)
    .option('--no-change-tracking', 'do not switch change tracking on')
    .option('--bandwidth <rate>', 'bytes a second read from vSphere at most: 200MiB/s, 50MiB/s 08:00-18:00 (VCB_BANDWIDTH)')
    .option('--parallel <n>', 'VMs at the same time; 2 when not set')
    .option('--compression <how>', 'auto, off, fast, better, best, or a zstd level from 1 to 19; auto when not set')
    .option('--bulk', 'a plain name may mean several VMs')
    .option('--init', 'make the repository if there is none')
    .option('--dry-run', 'show what would be done and by which transport, and do nothing of it')
    .addHelpText(
      'after',
      examples([
        'vcb backup web1 --repo /backup/vms --repo-password-file /etc/vcb/repo.pw',
        'vcb backup "folder:/DC/vm/prod" "!*-test" --mode full --json',
        'vcb backup "web*" --bulk --dry-run',
        'vcb backup db1 --quiesce require --exclude-disk scsi0:2 --transport san:nbdssl:https',
        'vcb backup "web*" --bulk --bandwidth "200MiB/s, 50MiB/s 08:00-18:00"',
        'vcb backup web1 --repo tar:- | ssh tape-host dd of=/dev/nst0 bs=1M',
      ]),
    )
    .action(async (expressions: string[], flags: BackupFlags) => {
      const [{ withAgent }, { runBackup, runForecast }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      // With an archive on standard output the report goes to standard error.
      const streaming = (flags.repo ?? io.environment['VCB_REPO']) === 'tar:-'
      const report = streaming ? { ...io, out: io.err } : io
      await withAgent(
        report,
        flags,
        async ({ agent, output }) => {
          const wish = {
            expressions,
            bulk: flags.bulk === true,
            mode: flags.mode,
            excludeDisks: flags.excludeDisk ?? [],
            init: flags.init === true,
          }
          if (flags.dryRun === true) {
            const forecast = await runForecast(agent, wish)
            status.exit = exitOf(forecast.vms)
            output.result(forecastJson(forecast), () => forecastText(forecast))
            return
          }
          using progress = await createProgress(io, systemClock, flags.json !== true)
          const run = await runBackup(agent, {
            ...wish,
            quiesce: agent.config.quiesce,
            guestScripts: guestScriptsOf(flags),
            onProgress: (at) => {
              const name = `${at.vm} ${at.disk}`
              const comparing = `${name} (comparing digests)`
              if (at.step === 'read') progress.finish(comparing)
              progress.update(at.step === 'read' ? name : comparing, at.doneBytes, at.totalBytes)
            },
            onWait: (vm, wait) => progress.wait(vm, wait),
            onVm: (outcome) => {
              if (outcome.ok) for (const disk of outcome.disks) progress.finish(`${outcome.vm.name} ${disk.label}`)
            },
          })
          status.exit = exitOf(run.vms, io.signal.aborted)
          output.result({ ...run, vms: run.vms.map(outcomeJson) }, () => run.vms.map(describe).join('\n'))
        },
        streaming ? process.stdout : undefined,
      )
    })
}

const outcomeJson = (outcome: VmOutcome): object => {
  if (!outcome.ok) return { ...outcome, error: errorJson(outcome.error) }
  const { stillHeld, ...result } = outcome
  return stillHeld === undefined ? result : { ...result, held: heldJson(stillHeld) }
}

/** As far as the exit status needs to know: of a backup, or of what one would come to. */
type Ended = { readonly ok: boolean; readonly error?: AgentError | undefined } & Partial<
  Pick<Extract<VmOutcome, { ok: true }>, 'stillHeld' | 'notProtected'>
>

/**
 * 0; 11 when the command itself was canceled and could not do everything; the error's own code when every VM failed the same way; 12 when some
 * failed, when a disk that nobody excluded is not protected, or when something is still held although the point exists.
 */
export function exitOf(outcomes: readonly Ended[], canceled = false): number {
  const stillHeld = outcomes.some((outcome) => outcome.stillHeld !== undefined)
  const errors = outcomes.flatMap(({ error }) => (error === undefined ? [] : [error]))
  if (canceled && (stillHeld || errors.some(({ code }) => code === 'CANCELED'))) return new AgentError('CANCELED', '').exit
  const codes = new Set(errors.map(({ exit }) => exit))
  const [only] = codes
  if (errors.length > 0 && errors.length === outcomes.length && codes.size === 1 && only !== undefined) return only
  const leftOut = outcomes.some(({ ok, notProtected }) => ok && notProtected?.some((disk) => disk.excluded !== true))
  return errors.length > 0 || leftOut || stillHeld ? new AgentError('PARTIAL', '').exit : 0
}

function describe(outcome: VmOutcome): string {
  if (!outcome.ok) return `${printable(outcome.vm.name)}  FAILED  ${printable(outcome.error.message)}\n    ${printable(outcome.error.next)}`
  const { disks } = outcome
  const sum = (of: (disk: DiskFacts) => number): number => disks.reduce((total, disk) => total + of(disk), 0)
  const lines = [
    `${printable(outcome.vm.name)}  ${outcome.mode}  point ${outcome.point.slice(0, 8)}  ${outcome.consistency}-consistent  ` +
      `read ${formatBytes(sum((disk) => disk.readBytes))} of ${formatBytes(sum((disk) => disk.capacityBytes))}, stored ${formatBytes(sum((disk) => disk.storedBytes))}, ` +
      `snapshot lived ${(outcome.snapshotLifetimeMs / 1000).toFixed(1)} s` +
      (outcome.frozenMs === undefined ? '' : `, guest frozen ${(outcome.frozenMs / 1000).toFixed(1)} s at most`),
  ]
  for (const disk of outcome.disks) {
    lines.push(`    ${disk.label}  ${disk.mode} (${printable(disk.modeReason)})  by ${disk.transport} (${printable(disk.transportReason)})`)
    if (disk.digestedBytes !== undefined)
      lines.push(
        `      ${formatBytes(disk.digestedBytes)} hashed at the source, ${formatBytes(disk.readBytes)} transferred, ${formatBytes(disk.storedBytes)} stored`,
      )
  }
  for (const disk of outcome.notProtected) lines.push(`    ${disk.disk}  NOT PROTECTED  ${printable(disk.reason)}`)
  for (const warning of outcome.warnings) lines.push(`    warning: ${printable(warning)}`)
  const { stillHeld } = outcome
  if (stillHeld !== undefined)
    lines.push(`    warning: the point is complete, but not everything is released. ${printable(`${stillHeld.message} ${stillHeld.next}`)}`)
  return lines.join('\n')
}
