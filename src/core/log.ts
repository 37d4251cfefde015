export type LogFields = Readonly<Record<string, unknown>>

/** What modules log to. The composition root adapts it to winston. One line per event, never per block; never a secret. */
export interface Log {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

const ignore = (): void => undefined
export const silentLog: Log = Object.freeze({ debug: ignore, info: ignore, warn: ignore, error: ignore })
