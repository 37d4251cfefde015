import Table from 'cli-table3'
import { type AgentError, printable, toAgentError } from '../core/index.ts'
import type { LeftError } from '../journal/index.ts'
import type { OnHangup } from './signals.ts'

export { printable }

/** Where a command reads and writes; the process's own in production, buffers in tests. */
export type CliIo = {
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Standard error is a terminal: progress bars may be drawn. */
  readonly interactive: boolean
  /** Aborted by the first SIGINT, SIGTERM or SIGHUP: the command ends in order. */
  readonly signal: AbortSignal
  /** Aborted by the second one: nothing more is waited for. */
  readonly giveUp?: AbortSignal | undefined
  /** Takes SIGHUP, which then ends nothing. */
  readonly onHangup?: OnHangup | undefined
}

/** One JSON document on standard output for `--json`, readable text otherwise. */
export type Output = {
  readonly json: boolean
  /** Prints the result: `value` as one line of JSON, or what `text` makes of it. */
  readonly result: <T>(value: T, text: (value: T) => string) => void
  /** A line for people on standard error; nothing with --json. */
  readonly note: (line: string) => void
}

export function createOutput(io: CliIo, json: boolean): Output {
  return {
    json,
    result: (value, text) => {
      if (json) {
        io.out(`${JSON.stringify(value)}\n`)
        return
      }
      const shown = text(value)
      if (shown !== '') io.out(shown.endsWith('\n') ? shown : `${shown}\n`)
    },
    note: (line) => {
      if (!json) io.err(`${line}\n`)
    },
  }
}

/** A plain table without borders; columns padded, long cells kept whole. */
export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const none = {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
    'bottom-right': '',
  }
  const inner = { left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' }
  const table = new Table({
    head: [...head],
    chars: { ...none, ...inner },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  })
  for (const row of rows) table.push([...row].map(printable))
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
}

/** Prints an error as two sentences, or as one JSON object with --json, and gives the exit status. */
export function reportError(io: CliIo, error: unknown, json: boolean): number {
  const shown = toAgentError(error)
  if (json) io.out(`${JSON.stringify({ error: errorJson(shown) })}\n`)
  else io.err(`vcb: ${printable(shown.message)}\n     ${printable(shown.next)}\n`)
  if (shown.code === 'INTERNAL' && io.environment['VCB_DEBUG'] !== undefined)
    io.err(`${String(error instanceof Error ? error.stack : error)}\n`)
  return shown.exit
}

/** What is still held, as it stands in JSON. */
export type HeldJson = { readonly claim: string; readonly kind: string; readonly what: string; readonly reason?: string | undefined }

export const heldJson = (left: LeftError): readonly HeldJson[] =>
  left.kept.map(({ claim, kind, what, reason }) => ({ claim, kind, what, reason }))

type ErrorJson = { code: string; exit: number; message: string; next: string; subject?: string; held?: readonly HeldJson[] }

export function errorJson(error: AgentError): ErrorJson {
  return {
    ...('kept' in error ? { held: heldJson(error as LeftError) } : {}),
    code: error.code,
    exit: error.exit,
    message: error.message,
    next: error.next,
    ...(error.subject === undefined ? {} : { subject: error.subject }),
  }
}
