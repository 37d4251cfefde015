import winston from 'winston'
import type { Log, LogFields } from '../core/index.ts'

export type LogSettings = {
  readonly level: string
  readonly file?: string | undefined
  /** The file goes on in a new one when it has so many bytes, and so many files are kept; without it the administrator's own rotation does that. */
  readonly bounded?: { readonly maxBytes: number; readonly files: number } | undefined
}

/**
 * The product's log on winston: JSON lines into `file`, or readable lines on standard error when no file is given.
 * Error objects are reduced to message and code; Secret values print as `***` by themselves.
 */
export function createLog(settings: LogSettings): Log & AsyncDisposable {
  const transport =
    settings.file === undefined
      ? new winston.transports.Console({
          stderrLevels: ['error', 'warn', 'info', 'debug'],
          format: winston.format.combine(
            winston.format.timestamp(),
            winston.format.printf((line) => {
              const { timestamp, level, message, ...fields } = line
              return `${String(timestamp)} ${level}: ${String(message)}${Object.keys(fields).length > 0 ? ` ${JSON.stringify(fields)}` : ''}`
            }),
          ),
        })
      : new winston.transports.File({
          filename: settings.file,
          options: { flags: 'a', mode: 0o600 },
          ...(settings.bounded === undefined
            ? {}
            : { maxsize: settings.bounded.maxBytes, maxFiles: settings.bounded.files, tailable: true }),
          format: winston.format.combine(winston.format.timestamp(), winston.format.json()),
        })
  const logger = winston.createLogger({ level: settings.level, transports: [transport] })
  const write =
    (level: string) =>
    (message: string, fields?: LogFields): void => {
      logger.log(level, message, plain(fields))
    }
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        logger.on('finish', resolve)
        logger.end()
      }),
  }
}

function plain(fields: LogFields | undefined): Record<string, unknown> {
  const result: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields ?? {})) {
    result[name] = value instanceof Error ? { message: value.message, ...('code' in value ? { code: value.code } : {}) } : value
  }
  return result
}
