import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { ConfigFlags } from './flags.ts'
import { type Environment, type Given, givenOver, localIf } from './given.ts'
import { configPlace, readConfigText } from './read-file.ts'

/** Where this proxy keeps what it remembers, and where it logs. */
export type StatePlaces = {
  /** Directory of this installation's id, and of the journal and the catalog where they are not shared. */
  readonly stateDirectory: string
  readonly logFile: string | undefined
}

/** `written` in the file, and what lies over it. */
export function placesOf(
  written: { readonly stateDirectory?: string | undefined; readonly logFile?: string | undefined },
  given: Given,
): StatePlaces {
  const { flags, environment } = given
  return {
    stateDirectory: resolve(
      flags.stateDir ?? environment['VCB_STATE_DIR'] ?? localIf(given, written.stateDirectory) ?? defaultStateDirectory(environment),
    ),
    logFile: flags.logFile ?? environment['VCB_LOG_FILE'] ?? localIf(given, written.logFile),
  }
}

/**
 * The same as `loadConfig` has, for a command that only starts another process, which checks the whole file and says what is wrong with it: neither schema nor what the other
 * sections need is loaded. CONFIG when a file was named and is missing, or these places in it are none.
 */
export async function readStatePlaces(flags: ConfigFlags, environment: Environment): Promise<StatePlaces> {
  const place = configPlace(flags, environment)
  const { raw, problems } = await readConfigText(place)
  const written = problems.length === 0 ? placesIn(raw) : undefined
  if (written !== undefined) return placesOf(written, givenOver(flags, environment, dirname(place.path)))
  const { loadConfig } = await import('./config.ts')
  return loadConfig(flags, environment)
}

/** As they are written; undefined when any is not as the schema wants it. */
function placesIn(raw: unknown): Parameters<typeof placesOf>[0] | undefined {
  const file = sectionOf(raw)
  const [state, log] = [sectionOf(file?.['state']), sectionOf(file?.['log'])]
  if (file === undefined || state === undefined || log === undefined) return undefined
  const values = [state['directory'], file['stateDirectory'], log['file']]
  if (!values.every((value) => value === undefined || typeof value === 'string')) return undefined
  const [directory, older, logFile] = values
  return { stateDirectory: directory ?? older, logFile }
}

/** `{}` for one that is absent; undefined for what is none. */
function sectionOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  if (value === undefined) return {}
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined
}

/** `/var/lib/vcb-proxy` for root, the user's state directory otherwise. */
function defaultStateDirectory(environment: Environment): string {
  if (process.getuid?.() === 0) return '/var/lib/vcb-proxy'
  return join(environment['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state'), 'vcb-proxy')
}
