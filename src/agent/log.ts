import { Writable } from 'node:stream'
import type { Logform } from 'winston'
import { type Clock, type Log, type LogFields, systemClock } from '../core/index.ts'
import { type LogBounds, LogFile } from './log-file.ts'
import { runFields } from './log-scope.ts'

export type LogSettings = {
  readonly level: string
  readonly file?: string | undefined
  /** The file goes on in a new one when it is full; without it the administrator's own rotation does that. */
  readonly bounded?: LogBounds | undefined
  /** Where is told that the file cannot be written; standard error when not given. */
  readonly onTrouble?: ((message: string) => void) | undefined
  readonly clock?: Clock | undefined
}

/** Text of strangers (a server's fault, a program's output) is cut there, characters. */
const MOST_TEXT = 8192
/** A line that is longer all the same keeps its message and its run alone, characters. */
const MOST_LINE = 65_536

/** The levels, what matters most first. */
const LEVELS = ['error', 'warn', 'info', 'debug'] as const
type Level = (typeof LEVELS)[number]
/** Where the lines of a log go. */
type Lines = AsyncDisposable & { readonly write: (level: Level, message: string, fields: LogFields) => void }

/**
 * The product's log: JSON lines into `file`, by winston, or readable lines on standard error when no file is given, for which nothing is loaded: most commands say none. A line
 * that a run says has the run's id, VM and job. Error objects are reduced to message and code; Secret values print as `***` by themselves.
 */
export async function openLog(settings: LogSettings): Promise<Log & AsyncDisposable> {
  const lines = settings.file === undefined ? linesOnStandardError(settings) : await linesIntoFile(settings, settings.file)
  const write =
    (level: Level) =>
    (message: string, fields?: LogFields): void =>
      lines.write(level, cut(message), { ...runFields(), ...plain(fields) })
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    [Symbol.asyncDispose]: () => lines[Symbol.asyncDispose](),
  }
}

function linesOnStandardError({ level: least, clock = systemClock }: LogSettings): Lines {
  const said = new Set<string>(LEVELS.slice(0, LEVELS.findIndex((one) => one === least) + 1))
  return {
    write: (level, message, fields) => {
      if (!said.has(level)) return
      const more = Object.keys(fields).length > 0 ? ` ${JSON.stringify(fields)}` : ''
      process.stderr.write(`${short(`${clock.now().toISOString()} ${level}: ${message}${more}`)}\n`)
    },
    [Symbol.asyncDispose]: async () => undefined,
  }
}

async function linesIntoFile(settings: LogSettings, path: string): Promise<Lines> {
  const { default: winston } = await import('winston')
  const { level, bounded: bounds, clock = systemClock } = settings
  const onTrouble = settings.onTrouble ?? ((message: string) => void process.stderr.write(`vcb: ${message}\n`))
  const now = (): string => clock.now().toISOString()
  const lostLine = (lost: number): string =>
    `${JSON.stringify({ timestamp: now(), level: 'warn', message: 'lines of the log could not be written here', lost, pid: process.pid })}\n`
  const file = new LogFile({ path, bounds, clock, onTrouble, lostLine })
  const { combine, json, timestamp } = winston.format
  const transport = new winston.transports.Stream({
    stream: linesInto(file),
    format: combine(timestamp({ format: now }), json(), winston.format((line) => shortLine(line))()),
  })
  const logger = winston.createLogger({ level, transports: [transport] })
  return {
    write: (at, message, fields) => void logger.log({ pid: process.pid, ...fields, level: at, message }),
    [Symbol.asyncDispose]: async () => {
      await new Promise<void>((resolve) => {
        logger.on('finish', resolve)
        logger.end()
      })
      await file[Symbol.asyncDispose]()
    },
  }
}

/** What winston writes to. It takes everything at once; the file behind it bounds what waits. */
const linesInto = (file: LogFile): Writable =>
  new Writable({
    decodeStrings: false,
    write: (line: string, _encoding, done) => {
      file.append(line)
      done()
    },
  })

function plain(fields: LogFields | undefined): Record<string, unknown> {
  const result: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields ?? {})) {
    if (value === undefined) continue
    result[name] =
      value instanceof Error
        ? { message: cut(value.message), ...('code' in value ? { code: value.code } : {}) }
        : typeof value === 'string'
          ? cut(value)
          : value
  }
  return result
}

const cut = (text: string): string => (text.length <= MOST_TEXT ? text : `${text.slice(0, MOST_TEXT)}… (${text.length} characters)`)
const short = (line: string): string => (line.length <= MOST_LINE ? line : `${line.slice(0, MOST_LINE)}…`)

const LINE = Symbol.for('message')

function shortLine(info: Logform.TransformableInfo): Logform.TransformableInfo {
  const text = info[LINE]
  if (typeof text !== 'string' || text.length <= MOST_LINE) return info
  const { timestamp, level, message, pid, run, vm, job } = info
  info[LINE] = JSON.stringify({ timestamp, level, message, pid, run, vm, job, cut: text.length })
  return info
}
