import { Writable } from 'node:stream'
import winston from 'winston'
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

/**
 * The product's log on winston: JSON lines into `file`, or readable lines on standard error when no file is given. A line that a run says has the run's id, VM and job.
 * Error objects are reduced to message and code; Secret values print as `***` by themselves.
 */
export function createLog(settings: LogSettings): Log & AsyncDisposable {
  const { level, file: path, bounded: bounds, clock = systemClock } = settings
  const onTrouble = settings.onTrouble ?? ((message: string) => void process.stderr.write(`vcb: ${message}\n`))
  const now = (): string => clock.now().toISOString()
  const lostLine = (lost: number): string =>
    `${JSON.stringify({ timestamp: now(), level: 'warn', message: 'lines of the log could not be written here', lost, pid: process.pid })}\n`
  const file = path === undefined ? undefined : new LogFile({ path, bounds, clock, onTrouble, lostLine })
  const timestamp = winston.format.timestamp({ format: now })
  const transport =
    file === undefined
      ? new winston.transports.Console({
          stderrLevels: ['error', 'warn', 'info', 'debug'],
          format: winston.format.combine(
            timestamp,
            winston.format.printf((line) => {
              const { timestamp: at, level: shown, message, ...fields } = line
              const more = Object.keys(fields).length > 0 ? ` ${JSON.stringify(fields)}` : ''
              return short(`${String(at)} ${shown}: ${String(message)}${more}`)
            }),
          ),
        })
      : new winston.transports.Stream({
          stream: linesInto(file),
          format: winston.format.combine(timestamp, winston.format.json(), winston.format((line) => shortLine(line))()),
        })
  const logger = winston.createLogger({ level, transports: [transport] })
  const own = file === undefined ? {} : { pid: process.pid }
  const write =
    (at: string) =>
    (message: string, fields?: LogFields): void => {
      logger.log({ ...own, ...runFields(), ...plain(fields), level: at, message: cut(message) })
    }
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    [Symbol.asyncDispose]: async () => {
      await new Promise<void>((resolve) => {
        logger.on('finish', resolve)
        logger.end()
      })
      await file?.[Symbol.asyncDispose]()
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

function shortLine(info: winston.Logform.TransformableInfo): winston.Logform.TransformableInfo {
  const text = info[LINE]
  if (typeof text !== 'string' || text.length <= MOST_LINE) return info
  const { timestamp, level, message, pid, run, vm, job } = info
  info[LINE] = JSON.stringify({ timestamp, level, message, pid, run, vm, job, cut: text.length })
  return info
}
