import type { Command } from 'commander'
import { AgentError } from '../core/index.ts'
import type { ForgetRequest, ForgetResult, VmForgetResult } from '../flow/index.ts'
import { type CliIo, errorJson, printable, renderTable } from './io.ts'
import { type CommandFlags, examples, repeatable, withCommon, withRepository } from './options.ts'
import type { ExitStatus } from './program.ts'

type ForgetFlags = CommandFlags & {
  readonly keepLast?: string
  readonly keepHourly?: string
  readonly keepDaily?: string
  readonly keepWeekly?: string
  readonly keepMonthly?: string
  readonly keepYearly?: string
  readonly keepWithin?: string
  readonly keepTag?: readonly string[]
  readonly timeZone?: string
  readonly dryRun?: boolean
  readonly evenTheLast?: boolean
}

export function registerForget(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withRepository(
      program
        .command('forget')
        .description('remove restore points: by a policy with --keep-…, or those named')
        .argument('[what...]', 'with --keep-…: VMs by name, pattern or uuid:, all when none; without: ids of points'),
    ),
  )
    .option('--keep-last <n>', 'the newest n points')
    .option('--keep-hourly <n>', 'the newest point of each of the newest n hours that have one')
    .option('--keep-daily <n>', 'the same for days')
    .option('--keep-weekly <n>', 'the same for ISO weeks')
    .option('--keep-monthly <n>', 'the same for months')
    .option('--keep-yearly <n>', 'the same for years')
    .option('--keep-within <duration>', 'all at most so much older than the newest, like 14d, 1y6m, 12h')
    .option('--keep-tag <tags>', 'points with this restic tag, or all of a,b; repeatable', repeatable)
    .option('--time-zone <zone>', 'where days and weeks begin; the one of this machine when not given')
    .option('--dry-run', 'show what would be forgotten and why, and change nothing')
    .option('--even-the-last', 'with ids: also a point that nothing newer replaces, or that cannot be read')
    .addHelpText(
      'after',
      [
        '',
        'The last complete point of a VM is never forgotten by a policy, whatever it says, and neither is the last one that held a disk or a',
        'consistency that newer points lack. Data is freed by the next "vcb prune". See docs/retention.md.',
        examples([
          'vcb forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run',
          'vcb forget "web*" "!web02" --keep-last 14 --keep-within 30d --time-zone Europe/Berlin',
          'vcb forget 4f1c2a9b',
        ]),
      ].join('\n'),
    )
    .action(async (what: readonly string[], flags: ForgetFlags) => {
      const [{ withAgent }, { runForget }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      const request = await forgetRequest(what, flags)
      await withAgent(io, flags, async ({ agent, output }) => {
        const dryRun = flags.dryRun === true
        const result = await runForget(agent, { request, dryRun })
        const repository = (await agent.provider()).url
        if (result.vms.some(({ error }) => error !== undefined)) status.exit = new AgentError('PARTIAL', '').exit
        output.result({ repository, dryRun, ...toJson(result) }, () => describe(result, dryRun))
      })
    })
}

/** USAGE where it is not clear what is to be removed: nothing is ever forgotten by default. */
async function forgetRequest(what: readonly string[], flags: ForgetFlags): Promise<ForgetRequest> {
  const { createCalendar, parsePolicy } = await import('../schedule/index.ts')
  const { keepLast, keepHourly, keepDaily, keepWeekly, keepMonthly, keepYearly, keepWithin, keepTag } = flags
  const rules = [keepLast, keepHourly, keepDaily, keepWeekly, keepMonthly, keepYearly, keepWithin, keepTag]
  if (rules.some((rule) => rule !== undefined)) {
    if (flags.evenTheLast === true) {
      throw new AgentError('USAGE', '--even-the-last is for points named one by one.', {
        next: 'Leave it out: no policy removes the last complete point of a VM.',
      })
    }
    const policy = parsePolicy({
      last: keepLast,
      hourly: keepHourly,
      daily: keepDaily,
      weekly: keepWeekly,
      monthly: keepMonthly,
      yearly: keepYearly,
      within: keepWithin,
      keepTags: keepTag,
    })
    const calendar = createCalendar(flags.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone)
    return { by: 'policy', policy, calendar, expressions: what }
  }
  if (what.length === 0) {
    throw new AgentError('USAGE', 'Neither a policy nor a restore point was given.', {
      next: 'Say what to keep, like --keep-daily 7 --keep-weekly 4, or name points by their ids.',
    })
  }
  return { by: 'points', points: what, evenTheLast: flags.evenTheLast === true }
}

function toJson(result: ForgetResult): object {
  return {
    vms: result.vms.map(({ vm, points, forgotten, error }) => ({
      vm: { name: vm.name, instanceUuid: vm.instanceUuid, vcenterUuid: vm.vcenterUuid },
      points: points.map(({ summary, keep, reasons, guard }) => {
        const { id, time, mode, consistency, notProtected } = summary
        return { id, time, mode, consistency, notProtected, keep, reasons, guard, forgotten: forgotten.includes(id) }
      }),
      ...(error === undefined ? {} : { error: errorJson(error) }),
    })),
    unreadable: result.unreadable,
  }
}

function describe(result: ForgetResult, dryRun: boolean): string {
  const parts = result.vms.map((vm) => describeVm(vm, dryRun))
  if (result.unreadable.length > 0) parts.push(`${dryRun ? 'Would remove' : 'Removed'} unreadable: ${result.unreadable.join(', ')}`)
  return parts.length === 0 ? 'There are no restore points.' : parts.join('\n\n')
}

function describeVm({ vm, points, forgotten, error }: VmForgetResult, dryRun: boolean): string {
  const doomed = points.filter(({ keep }) => !keep).length
  const kept = points.length - (dryRun ? doomed : forgotten.length)
  const table = renderTable(
    ['', 'POINT', 'TIME', 'MODE', 'CONSISTENCY', 'WHY'],
    points.map(({ summary, keep, reasons }) => [
      keep ? 'keep' : dryRun ? 'would forget' : forgotten.includes(summary.id) ? 'forgot' : 'STILL THERE',
      summary.id.length === 64 ? summary.id.slice(0, 8) : summary.id,
      summary.time,
      summary.mode,
      summary.consistency,
      reasons.join(', '),
    ]),
  )
  const head = `${printable(vm.name)}: ${dryRun ? `would forget ${doomed}` : `forgot ${forgotten.length}`}, ${dryRun ? 'keep' : 'kept'} ${kept}`
  return [head, table, ...(error === undefined ? [] : [`ERROR ${printable(error.message)}`, `      ${printable(error.next)}`])].join('\n')
}
