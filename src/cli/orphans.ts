import type { Command } from 'commander'
import type { OrphanRun } from '../agent/index.ts'
import { AgentError, type AgentId, formatBytes } from '../core/index.ts'
import { type CliIo, printable, renderTable } from './io.ts'
import { type CommandFlags, examples, withCommon, withConnection } from './options.ts'
import type { ExitStatus } from './program.ts'

type OrphanFlags = CommandFlags & {
  readonly remove?: boolean | undefined
  readonly agent?: string | undefined
  readonly files?: boolean | undefined
  readonly all?: boolean | undefined
}

export function registerOrphans(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withConnection(
      program.command('orphans').description('list what backups left behind in vSphere, ours and others; remove what is proven ours'),
    ),
  )
    .option('--remove', 'remove what this installation made and no job holds')
    .option('--agent <id>', "treat this agent's marks as ours: of another vcb-proxy, or of a lost or moved installation")
    .option('--files', 'also search the datastores for files no snapshot points to; takes minutes on large ones')
    .option('--all', 'also list what living jobs hold')
    .addHelpText(
      'after',
      examples([
        'vcb orphans',
        'vcb orphans --files --json',
        'vcb orphans --remove',
        'vcb orphans --remove --agent 4f1c0e9a2b7d4c6e8a905b3d',
      ]) +
        `
Lists snapshots, half-restored VMs and datastore directories with a mark of vcb-proxy, snapshots of other backup products, VMs that need
consolidation and, with --files, files no snapshot points to. Only the first kind is ever removed, and only when the mark proves it.

Exit codes: 0 nothing is left behind, 12 something is (what living jobs hold and other products' snapshots of the last 24 hours do not count),
11 canceled.
`,
    )
    .action(async (flags: OrphanFlags) => {
      const [{ withAgent }, { runOrphans }] = await Promise.all([import('./session.ts'), import('../agent/index.ts')])
      await withAgent(io, flags, async ({ agent, output }) => {
        const run = await runOrphans(agent, {
          remove: flags.remove === true,
          files: flags.files === true,
          named: agentOf(flags.agent),
        })
        if (!run.clean) status.exit = new AgentError('PARTIAL', '').exit
        const now = agent.clock.now()
        output.result(documentOf(run, flags.all === true, now), () => textOf(run, flags.all === true, now))
      })
    })
}

function agentOf(text: string | undefined): AgentId | undefined {
  if (text === undefined || /^[0-9a-f]{24}$/.test(text)) return text as AgentId | undefined
  throw new AgentError('USAGE', `${JSON.stringify(text)} is not the id of an agent.`, {
    next: 'Give the 24 digits that "vcb orphans" shows for what that agent made.',
  })
}

/** The document of `--json`. */
function documentOf(run: OrphanRun, all: boolean, now: Date): object {
  return {
    vcenter: run.vcenter,
    agent: run.agent,
    clean: run.clean,
    orphans: shown(run, all).map((orphan) => {
      const became = run.removed?.find((one) => one.orphan === orphan)
      return {
        kind: orphan.what.kind,
        name: orphan.name,
        path: orphan.path,
        since: orphan.since ?? null,
        ageSeconds: ageOf(orphan.since, now) ?? null,
        bytes: orphan.bytes ?? null,
        claim: orphan.claim,
        mark: orphan.mark ?? null,
        ...orphan.verdict,
        result: became?.result ?? null,
        ...(became?.reason === undefined ? {} : { reason: became.reason }),
      }
    }),
    otherProducts: run.foreign.map((one) => ({ ...one, bytes: one.bytes ?? null, ageSeconds: ageOf(one.createdAt, now) ?? null })),
    consolidation: run.consolidation.map((one) => ({ ...one, since: one.since ?? null, ageSeconds: ageOf(one.since, now) ?? null })),
    files: run.files ?? null,
    unseen: run.unseen,
  }
}

function textOf(run: OrphanRun, all: boolean, now: Date): string {
  const parts: string[] = []
  const table = (title: string, head: readonly string[], rows: readonly (readonly string[])[]): void => {
    if (rows.length > 0) parts.push(`${title}\n${renderTable(head, rows)}`)
  }
  table(
    'Made by vcb-proxy',
    ['WHAT', 'WHERE', 'AGE', 'SIZE', 'WHOSE', 'STATE', 'REASON'],
    shown(run, all).map((orphan) => {
      const became = run.removed?.find((one) => one.orphan === orphan)
      return [
        orphan.what.kind,
        orphan.path,
        ageText(orphan.since, now),
        sizeText(orphan.bytes),
        whose(run, orphan),
        became?.result ?? orphan.verdict.standing,
        became?.reason ?? orphan.verdict.reason,
      ]
    }),
  )
  table(
    'Snapshots of other products (never removed)',
    ['PRODUCT', 'VM', 'SNAPSHOT', 'AGE', 'SIZE'],
    run.foreign.map((one) => [one.product, one.path, one.name, ageText(one.createdAt, now), sizeText(one.bytes)]),
  )
  table(
    'VMs that need consolidation',
    ['VM', 'REDO LOGS', 'SIZE', 'AT LEAST SINCE'],
    run.consolidation.map((one) => [one.path, String(one.redoLogs.length), sizeText(one.bytes), ageText(one.since, now)]),
  )
  table(
    'Files no snapshot points to (never removed)',
    ['FILE', 'SIZE', 'LAST WRITTEN', 'IN THE DIRECTORY OF'],
    (run.files ?? []).map((file) => [
      file.path,
      sizeText(file.bytes),
      `${ageText(file.modified, now)}${file.recent ? ', may be in use' : ''}`,
      file.vm ?? 'no VM registered here',
    ]),
  )
  if (parts.length === 0) parts.push('Nothing is left behind.')
  for (const { where, reason } of run.unseen) parts.push(`Not looked at: ${printable(where)}: ${printable(reason)}.`)
  return parts.join('\n\n')
}

const shown = (run: OrphanRun, all: boolean): OrphanRun['orphans'] =>
  run.orphans.filter(({ verdict }) => all || verdict.standing !== 'inUse')

function whose(run: OrphanRun, { mark }: OrphanRun['orphans'][number]): string {
  if (mark === undefined) return 'not proven'
  return mark.agent === run.agent ? 'this agent' : `agent ${mark.agent} on ${mark.host}`
}

function ageOf(since: string | undefined, now: Date): number | undefined {
  const age = since === undefined ? Number.NaN : Math.round((now.getTime() - Date.parse(since)) / 1000)
  return Number.isNaN(age) ? undefined : Math.max(0, age)
}

function ageText(since: string | undefined, now: Date): string {
  const seconds = ageOf(since, now)
  if (seconds === undefined) return '?'
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`
}

const sizeText = (bytes: number | undefined): string => (bytes === undefined ? '?' : formatBytes(bytes))
