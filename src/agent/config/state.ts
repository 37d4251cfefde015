import { z } from 'zod'
import type { LogBounds } from '../log-file.ts'
import { parsePgAddress, type PgAddress } from '../../state/index.ts'
import { type FileOf, type Given, localIf, parseFlag } from './given.ts'
import { checkedBy } from './list-of.ts'
import { byteSize } from './quantity.ts'
import { type SecretSource, secretSource } from './secret-source.ts'
import { placesOf, type StatePlaces } from './state-places.ts'

/** What this proxy keeps of itself, and what it says of its work. */
export type StateConfig = StatePlaces & {
  /** The PostgreSQL database that several proxies share; undefined: the state directory has it all. docs/many-proxies.md. */
  readonly sharedState: SharedStateConfig | undefined
  readonly logLevel: string
  /** When `logFile` goes on in a new file; undefined: never by us. */
  readonly logBounds: LogBounds | undefined
}

export type SharedStateConfig = {
  readonly address: PgAddress
  /** Neither file nor variable: the server knows the user by itself (peer over a Unix socket). */
  readonly password: SecretSource
  /** Of the authority that signed the server's certificate; the system's own authorities otherwise. */
  readonly caFile: string | undefined
}

const level = z.enum(['error', 'warn', 'info', 'debug'])
const LOG_BOUNDS: LogBounds = Object.freeze({ maxBytes: 10 * 2 ** 20, files: 10 })
/** 0: somebody else rotates it. */
const logSize = z.union([z.literal(0), byteSize(2 ** 16, 2 ** 40)])
const pgUrl = checkedBy(parsePgAddress)

export const stateKeys = {
  stateDirectory: z.string().optional(),
  state: z
    .strictObject({
      directory: z.string().optional(),
      url: pgUrl.optional(),
      passwordFile: z.string().optional(),
      passwordEnv: z.string().optional(),
      caFile: z.string().optional(),
    })
    .optional(),
  log: z
    .strictObject({
      file: z.string().optional(),
      level: level.optional(),
      maxSize: logSize.optional(),
      keep: z.int().min(1).max(1000).optional(),
    })
    .optional(),
} as const

export function stateOf(file: FileOf<typeof stateKeys>, given: Given): StateConfig {
  const { flags, environment } = given
  return {
    ...placesOf({ stateDirectory: file.state?.directory ?? file.stateDirectory, logFile: file.log?.file }, given),
    sharedState: sharedStateOf(file.state, given),
    logLevel: parseFlag('--log-level', level, flags.logLevel ?? environment['VCB_LOG_LEVEL']) ?? file.log?.level ?? 'warn',
    logBounds: logBoundsOf(file.log),
  }
}

function logBoundsOf(log: FileOf<typeof stateKeys>['log']): LogBounds | undefined {
  const { maxSize = LOG_BOUNDS.maxBytes, keep = LOG_BOUNDS.files } = log ?? {}
  return maxSize === 0 ? undefined : Object.freeze({ maxBytes: maxSize, files: keep })
}

function sharedStateOf(file: FileOf<typeof stateKeys>['state'], given: Given): SharedStateConfig | undefined {
  const url = parseFlag('VCB_STATE_URL', pgUrl, given.environment['VCB_STATE_URL']) ?? file?.url
  if (url === undefined) return undefined
  return Object.freeze({
    address: parsePgAddress(url),
    password: secretSource(undefined, given.environment, 'VCB_STATE_PASSWORD', localIf(given, file?.passwordFile), file?.passwordEnv),
    caFile: localIf(given, file?.caFile),
  })
}
