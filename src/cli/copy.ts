import type { Command } from 'commander'
import { AgentError, formatBytes, systemClock } from '../core/index.ts'
import type { PointOutcome } from '../agent/index.ts'
import { findPoint } from './find-point.ts'
import { type CliIo, errorJson, printable, renderTable } from './io.ts'
import { type CommandFlags, examples, repeatable, withCommon, withRepository } from './options.ts'
import { createProgress } from './progress.ts'
import type { ExitStatus } from './program.ts'

type CopyFlags = CommandFlags & {
  readonly to: string
  readonly toPasswordFile?: string
  readonly vm?: readonly string[]
  readonly dryRun?: boolean
  readonly init?: boolean
}

export function registerCopy(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withRepository(
      program
        .command('copy')
        .description('store restore points a second time, in another repository')
        .argument('[point...]', 'ids or NAME@latest; all that are not there yet when none'),
    ),
  )
    .requiredOption('--to <repository>', 'name of one of "repositories" in vcb.yaml, or a URL')
    .option('--to-password-file <file>', 'file with the password of a repository given by its URL, - for standard input')
    .option('--compression <how>', 'auto, off, fast, better, best, or a zstd level from 1 to 19; auto when not set')
    .option('--vm <name>', 'only points of this VM, by name or instance uuid; repeatable', repeatable)
    .option('--init', 'make the other repository when there is none')
    .option('--dry-run', 'show what would be copied, and copy nothing')
    .addHelpText(
      'after',
      [
        '',
        'The oldest points are copied first; what is there already is left alone, so the command can be run again after whatever cut it off.',
        'See docs/copy.md.',
        examples([
          'vcb copy --to offsite',
          'vcb copy web1@latest --to rest:https://backup.example/vms --to-password-file /etc/vcb/offsite.pw',
        ]),
      ].join('\n'),
    )
    .action(async (texts: readonly string[], flags: CopyFlags) => {
      const [{ withAgent }, { runCopy }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        const store = await agent.points()
        const ids = new Set<string>()
        for (const text of texts) {
          await using reader = await store.open(await findPoint(store, text, io.signal), { signal: io.signal })
          ids.add(reader.id)
        }
        using progress = await createProgress(io, systemClock, flags.json !== true)
        const run = await runCopy(agent, {
          to: flags.to,
          password: flags.toPasswordFile === undefined ? {} : { file: flags.toPasswordFile },
          dryRun: flags.dryRun === true,
          init: flags.init === true && flags.dryRun !== true,
          wanted: ({ id, vmName, instanceUuid }) =>
            (ids.size === 0 || ids.has(id)) && (flags.vm === undefined || flags.vm.includes(vmName) || flags.vm.includes(instanceUuid)),
          onProgress: (point, at) => progress.update(`${point.vmName} ${point.time} ${at.disk}`, at.doneBytes, at.totalBytes),
          onPoint: ({ point }) => progress.finish(`${point.vmName} ${point.time}`),
        })
        if (run.points.some(({ result }) => result === 'failed')) status.exit = new AgentError('PARTIAL', '').exit
        output.result({ ...run, dryRun: flags.dryRun === true, points: run.points.map(toJson) }, () => describe(run.points, run.to))
      })
    })
}

function toJson({ point, ...outcome }: PointOutcome): object {
  const shown = outcome.result === 'failed' ? { ...outcome, error: errorJson(outcome.error) } : outcome
  return { point: point.id, vmName: point.vmName, time: point.time, ...shown }
}

function describe(points: readonly PointOutcome[], to: string): string {
  if (points.length === 0) return 'There is nothing to copy.'
  const short = (id: string): string => (id.length === 64 ? id.slice(0, 8) : id)
  const table = renderTable(
    ['', 'POINT', 'VM', 'TIME', 'COPY', 'READ', 'ADDED'],
    points.map((outcome) => [
      outcome.result === 'failed' ? 'FAILED' : outcome.result,
      short(outcome.point.id),
      printable(outcome.point.vmName),
      outcome.point.time,
      'copy' in outcome ? short(outcome.copy) : '',
      outcome.result === 'copied' ? formatBytes(outcome.readBytes) : '',
      outcome.result === 'copied' ? formatBytes(outcome.storedBytes) : '',
    ]),
  )
  const errors = points.flatMap((outcome) =>
    outcome.result === 'failed'
      ? [`ERROR ${short(outcome.point.id)}: ${printable(outcome.error.message)}`, `      ${printable(outcome.error.next)}`]
      : [],
  )
  const copied = points.filter(({ result }) => result === 'copied').length
  return [table, ...errors, `${copied} of ${points.length} copied to ${to}.`].join('\n')
}
