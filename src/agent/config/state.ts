import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { type Environment, type FileOf, type Given, localIf, parseFlag } from './given.ts'

/** What this proxy keeps of itself, and what it says of its work. */
export type StateConfig = {
  /** Directory of the journal and the catalog. */
  readonly stateDirectory: string
  readonly logFile: string | undefined
  readonly logLevel: string
}

const level = z.enum(['error', 'warn', 'info', 'debug'])

export const stateKeys = {
  stateDirectory: z.string().optional(),
  log: z.strictObject({ file: z.string().optional(), level: level.optional() }).optional(),
} as const

export function stateOf(file: FileOf<typeof stateKeys>, given: Given): StateConfig {
  const { flags, environment } = given
  return {
    stateDirectory: resolve(
      flags.stateDir ?? environment['VCB_STATE_DIR'] ?? localIf(given, file.stateDirectory) ?? defaultStateDirectory(environment),
    ),
    logFile: flags.logFile ?? environment['VCB_LOG_FILE'] ?? localIf(given, file.log?.file),
    logLevel: parseFlag('--log-level', level, flags.logLevel ?? environment['VCB_LOG_LEVEL']) ?? file.log?.level ?? 'warn',
  }
}

/** `/var/lib/vcb-proxy` for root, the user's state directory otherwise. */
function defaultStateDirectory(environment: Environment): string {
  if (process.getuid?.() === 0) return '/var/lib/vcb-proxy'
  return join(environment['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state'), 'vcb-proxy')
}
