import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { type Clock, ensureDirectory, fromErrno, isMissing, openOutput, type OutputFile, renameFile } from '../core/index.ts'

/** What is written down: what was asked, before it is done, and what came of it; and what was refused. */
const auditEntry = z.object({
  at: z.string(),
  /** Of the call; its lines have the same. */
  id: z.string(),
  by: z.string(),
  role: z.string().optional(),
  via: z.string(),
  /** `run`, `cancel`, `token add`; of a refused call its method and path. */
  action: z.string(),
  /** What it was done to, as the caller said it. */
  target: z.unknown().optional(),
  outcome: z.enum(['asked', 'done', 'failed', 'refused']),
  code: z.string().optional(),
  message: z.string().optional(),
  /** How many like this one it stands for. */
  times: z.number().optional(),
})
export type AuditEntry = Readonly<z.output<typeof auditEntry>>

/** Orders, and calls that were refused: apart, so that a stranger who is refused all day long does not push out what was done. */
const FILES = { done: 'audit', refused: 'audit-refused' } as const
type Kind = keyof typeof FILES

/** A file is put aside when it has grown to this, bytes; so many are kept beside it. */
const MOST_BYTES = 8 * 1024 * 1024
const KEPT = 12
/** A line is no longer, characters: what a caller sent is cut. */
const LONGEST_LINE = 8 * 1024

export type AuditOptions = {
  /** The state directory. */
  readonly directory: string
  readonly clock: Clock
  /** False: whoever writes beside the agent, which alone puts files aside. */
  readonly rotate?: boolean | undefined
  readonly mostBytes?: number | undefined
}

/**
 * Who did what, when, with which outcome: JSON lines, added to only, readable by the agent's user alone. An entry is durable when `write` resolves;
 * entries of one moment share an fsync. Errors: CAPACITY, CONFIG.
 */
export class AuditLog implements AsyncDisposable {
  readonly #options: AuditOptions
  readonly #waiting: Record<Kind, string[]> = { done: [], refused: [] }
  readonly #flushing: Record<Kind, Promise<void>> = { done: Promise.resolve(), refused: Promise.resolve() }
  readonly #open = new Map<Kind, { readonly file: OutputFile; size: number }>()

  constructor(options: AuditOptions) {
    this.#options = options
  }

  async write(entry: Omit<AuditEntry, 'at'>): Promise<void> {
    const kind: Kind = entry.outcome === 'refused' ? 'refused' : 'done'
    this.#waiting[kind].push(lineOf({ at: this.#options.clock.now().toISOString(), ...entry }))
    const flushed = this.#flushing[kind].catch(() => undefined).then(() => this.#flush(kind)) // told to whoever wrote that entry
    this.#flushing[kind] = flushed
    await flushed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(Object.values(this.#flushing))
    for (const { file } of this.#open.values()) await file.close()
    this.#open.clear()
  }

  async #flush(kind: Kind): Promise<void> {
    const lines = this.#waiting[kind].splice(0)
    if (lines.length === 0) return
    const path = join(this.#options.directory, `${FILES[kind]}.jsonl`)
    try {
      const open = (await this.#rotated(kind, path)) ?? (await this.#opened(kind, path))
      const data = Buffer.from(lines.join(''))
      await open.file.write(data)
      await open.file.sync()
      open.size += data.length
    } catch (error) {
      throw fromErrno(error, path) ?? error
    }
  }

  async #opened(kind: Kind, path: string): Promise<{ readonly file: OutputFile; size: number }> {
    const before = this.#open.get(kind)
    if (before !== undefined) return before
    await ensureDirectory(this.#options.directory)
    const torn = await endsInMidLine(path)
    const file = await openOutput(path, 'a')
    const opened = { file, size: await file.size() }
    this.#open.set(kind, opened)
    if (torn) await file.write(Buffer.from('\n'))
    return opened
  }

  /** Undefined unless the file is full: then a new one, after the others were renamed from the oldest on. */
  async #rotated(kind: Kind, path: string): Promise<{ readonly file: OutputFile; size: number } | undefined> {
    const open = await this.#opened(kind, path)
    if (this.#options.rotate === false || open.size < (this.#options.mostBytes ?? MOST_BYTES)) return undefined
    await open.file.close()
    this.#open.delete(kind)
    for (let age = KEPT; age > 0; age--) {
      const from = age === 1 ? path : aged(path, age - 1)
      try {
        await renameFile(from, aged(path, age))
      } catch (error) {
        if (!isMissing(error)) throw error
      }
    }
    return this.#opened(kind, path)
  }
}

/** Which entries. All that is given must fit. */
export type AuditQuery = { readonly since?: Date | undefined; readonly by?: string | undefined }

/** Oldest first. Lines that are no entries (torn by a crash) are left out and counted. */
export async function readAudit(
  directory: string,
  { since, by }: AuditQuery,
): Promise<{ readonly entries: readonly AuditEntry[]; readonly damaged: number }> {
  const entries: AuditEntry[] = []
  let damaged = 0
  for (const name of Object.values(FILES)) {
    const path = join(directory, `${name}.jsonl`)
    const paths = [...Array.from({ length: KEPT }, (_, index) => aged(path, KEPT - index)), path]
    for (const each of paths) {
      for (const line of (await textOf(each)).split('\n')) {
        if (line === '') continue
        const entry = parseLine(line)
        if (entry === undefined) damaged++
        else if ((since === undefined || Date.parse(entry.at) >= since.getTime()) && (by === undefined || entry.by === by))
          entries.push(entry)
      }
    }
  }
  return { entries: entries.toSorted((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0)), damaged }
}

const aged = (path: string, age: number): string => path.replace(/\.jsonl$/, `.${age}.jsonl`)

function lineOf(entry: AuditEntry): string {
  const line = JSON.stringify(entry)
  if (line.length <= LONGEST_LINE) return `${line}\n`
  const { target, message, ...rest } = entry
  const cut = {
    ...rest,
    target: `${JSON.stringify(target ?? '').slice(0, LONGEST_LINE / 4)}…`,
    message: message?.slice(0, LONGEST_LINE / 4),
  }
  return `${JSON.stringify(cut)}\n`
}

function parseLine(line: string): AuditEntry | undefined {
  try {
    return auditEntry.safeParse(JSON.parse(line)).data
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return ''
    throw fromErrno(error, path) ?? error
  }
}

/** After a crash in mid-write. */
async function endsInMidLine(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).size === 0) return false
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
  return !(await readFile(path, 'utf8')).endsWith('\n')
}
