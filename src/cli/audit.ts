import type { Command } from 'commander'
import type { AuditEntry } from '../api/index.ts'
import { systemClock } from '../core/index.ts'
import { type CliIo, createOutput, renderTable } from './io.ts'
import { formatMoment, parseMoment } from './moments.ts'
import { type CommandFlags, examples, withCommon } from './options.ts'

type AuditFlags = CommandFlags & { readonly since?: string; readonly by?: string; readonly timeZone?: string }

export function registerAudit(program: Command, io: CliIo): void {
  withCommon(
    program.command('audit').description('who asked the agent of this proxy for what, when, and what came of it; refused calls too'),
  )
    .option('--since <when>', 'a moment, or 7d: the last seven days')
    .option('--by <name>', 'only what this token or user did')
    .option('--time-zone <zone>', 'in which times are shown; the one of this machine when not given')
    .addHelpText('after', examples(['vcb audit --since 7d', 'vcb audit --by ci --json']))
    .action(async (flags: AuditFlags) => {
      const [{ loadConfig }, { readAudit }] = await Promise.all([import('../agent/index.ts'), import('../api/index.ts')])
      const zone = flags.timeZone ?? Temporal.Now.timeZoneId()
      const { stateDirectory } = await loadConfig(flags, io.environment)
      const { entries, damaged } = await readAudit(stateDirectory, { since: sinceOf(flags.since, zone), by: flags.by })
      const output = createOutput(io, flags.json === true)
      if (damaged > 0) output.note(`${damaged} damaged ${damaged === 1 ? 'line was' : 'lines were'} left out.`)
      output.result({ entries, damaged }, () => table(entries, zone))
    })
}

/** `7d` is so long ago here. */
function sinceOf(text: string | undefined, zone: string): Date | undefined {
  if (text === undefined) return undefined
  const now = systemClock.now()
  const moment = parseMoment('--since', text, zone, now)
  return /^\+?\d+[hdw]$/u.test(text.trim()) ? new Date(2 * now.getTime() - moment.getTime()) : moment
}

/** One line a call: what was asked and its outcome stand together. */
function table(entries: readonly AuditEntry[], zone: string): string {
  if (entries.length === 0) return 'Nothing was asked.'
  const ended = new Map(entries.filter(({ outcome }) => outcome === 'done' || outcome === 'failed').map((entry) => [entry.id, entry]))
  const asked = new Set(entries.filter(({ outcome }) => outcome === 'asked').map(({ id }) => id))
  const rows = entries
    .filter(({ outcome, id }) => outcome === 'asked' || outcome === 'refused' || !asked.has(id))
    .map((entry) => {
      const end = entry.outcome === 'asked' ? ended.get(entry.id) : entry
      const what =
        end === undefined ? 'outcome unknown' : [end.outcome, end.code, end.message].filter((part) => part !== undefined).join(' ')
      return [formatMoment(new Date(entry.at), zone), entry.by, entry.role ?? '-', entry.via, entry.action, targetOf(entry.target), what]
    })
  return renderTable(['AT', 'BY', 'ROLE', 'VIA', 'ACTION', 'WHAT', 'OUTCOME'], rows)
}

const targetOf = (target: unknown): string =>
  (target === undefined ? '' : typeof target === 'string' ? target : JSON.stringify(target)).slice(0, 80)
