import { readFile, stat } from 'node:fs/promises'
import { type AgentConfig, loadConfig } from '../../agent/index.ts'
import { AgentError, fromErrno, isMissing } from '../../core/index.ts'
import { LOOKUP_METHODS, type LookupMethod } from '../../inventory/index.ts'
import { parseBackuptoolsConf, parseConfigJs } from '../../vcb-files/index.ts'
import type { CliIo } from '../io.ts'
import type { CommandFlags } from '../options.ts'
import { type ToolFlags, usage } from './flags.ts'

/** What flags, `config.js` and `backuptools.conf` say together, in the terms of the commands of `vcb`. */
export type ToolSettings = {
  readonly flags: CommandFlags
  /** The environment with what the files add to it where it says nothing itself. */
  readonly environment: CliIo['environment']
  /** For search specifications without a prefix. */
  readonly lookup: LookupMethod | undefined
  /** Where relative mount points lie. */
  readonly backupRoot: string | undefined
  /** What vcbMounter finds in its directory, an export or a mount, it removes first. */
  readonly replacesExisting: boolean
  /** How long mounts are held, and whether vcbCleanup ends them. */
  readonly mounts: Pick<AgentConfig['vcbTools'], 'maxHoldMs' | 'idleMs' | 'cleanupMounts'>
}

type Values = ReadonlyMap<string, string>
const NONE: Values = new Map()

/** Where the guides put it; the first that exists is read. */
const BACKUPTOOLS = ['/etc/backuptools.conf', '/etc/vmware/backuptools.conf']

/** Reads the files of Consolidated Backup. Errors: CONFIG (wrong, or readable by others), USAGE (`-p`, `-L`). */
export async function readToolSettings(tool: string, { values }: ToolFlags, io: CliIo): Promise<ToolSettings> {
  const config = await loadConfig({}, io.environment)
  const argument = passwordArgument(config, values)
  const framework = config.vcbTools.configJs === undefined ? NONE : await readConfigJs(config.vcbTools.configJs, io.environment)
  const console = await readBackuptools(io.environment)
  const added: Record<string, string> = {}
  const say = (variable: string, value: string | undefined): void => {
    if (value !== undefined && value !== '' && io.environment[variable] === undefined) added[variable] = value
  }
  const host = framework.get('HOST') ?? console.get('VCHOST')
  const port = framework.get('HOST') === undefined ? undefined : framework.get('PORT')
  say('VCB_VCENTER', host === undefined || port === undefined || /:\d+$/.test(host) ? host : `${host}:${port}`)
  say('VCB_USER', framework.get('USERNAME') ?? console.get('USERNAME'))
  if (io.environment['VCB_PASSWORD_FILE'] === undefined) say('VCB_PASSWORD', framework.get('PASSWORD') ?? console.get('PASSWORD'))
  say('VCB_TRANSPORT', framework.get('TRANSPORT_MODE')?.toLowerCase())
  const environment = { ...io.environment, ...added }
  return {
    flags: {
      vcenter: hostArgument(values, environment['VCB_VCENTER'] ?? config.vcenter.url),
      user: values.get('u'),
      logLevel: logLevel(tool, values.get('L')),
    },
    environment: argument === undefined ? environment : { ...environment, VCB_PASSWORD: argument, VCB_PASSWORD_FILE: undefined },
    lookup: lookupMethod(framework),
    backupRoot: framework.get('BACKUPROOT'),
    replacesExisting: framework.get('PREEXISTING_MOUNTPOINT')?.toLowerCase() === 'delete',
    mounts: config.vcbTools,
  }
}

function passwordArgument(config: AgentConfig, values: Values): string | undefined {
  const given = values.get('p')
  if (given === undefined || config.vcbTools.passwordArgument) return given
  throw new AgentError('USAGE', 'A password on the command line (-p) can be read by every user of this machine, so it is not taken.', {
    next: 'Leave -p away and keep the password in a file that VCB_PASSWORD_FILE or vcenter.passwordFile names; for old scripts set vcbTools.passwordArgument in vcb.yaml.',
  })
}

/** On the console of an ESX, `-h localhost` meant that ESX; here it is the one that the configuration names, if it names one. */
function hostArgument(values: Values, configured: string | undefined): string | undefined {
  const given = values.get('h')
  return given?.toLowerCase() === 'localhost' && configured !== undefined ? undefined : given
}

/** VCB's numbers; vcb logs in four levels. */
function logLevel(tool: string, given: string | undefined): string | undefined {
  if (given === undefined) return undefined
  const level = (['error', 'error', 'warn', 'warn', 'info', 'debug', 'debug'] as const)[/^[0-6]$/.test(given) ? Number(given) : -1]
  if (level === undefined) throw usage(tool, `The log level ${JSON.stringify(given)} is not one of 0 to 6.`)
  return level
}

function lookupMethod(framework: Values): LookupMethod | undefined {
  if (framework === NONE) return undefined
  const said = (framework.get('VM_LOOKUP_METHOD') ?? 'ipaddr').toLowerCase()
  const method = LOOKUP_METHODS.find((one) => one === said)
  if (method !== undefined) return method
  throw new AgentError('CONFIG', `VM_LOOKUP_METHOD in config.js is ${JSON.stringify(said)}, which is none of ${LOOKUP_METHODS.join(', ')}.`)
}

async function readConfigJs(path: string, environment: CliIo['environment']): Promise<Values> {
  const bytes = await readWhole(path)
  if (bytes === undefined)
    throw new AgentError('CONFIG', `The configuration file ${path} does not exist.`, {
      subject: path,
      next: 'Name the right one in VCB_CONFIG_JS.',
    })
  const values = parseConfigJs(bytes, path)
  if (values.get('USERNAME') === '__sspi__')
    throw new AgentError('CONFIG', `${path} asks for a pass-through Windows login (__sspi__), which there is not here.`, {
      subject: path,
      next: 'Write the name of a user, and keep the password in a file that VCB_PASSWORD_FILE names.',
    })
  await refuseReadable(path, values, environment)
  return values
}

async function readBackuptools(environment: CliIo['environment']): Promise<Values> {
  const named = environment['VCB_BACKUPTOOLS_CONF']
  for (const path of named === undefined ? BACKUPTOOLS : [named]) {
    const bytes = await readWhole(path)
    if (bytes === undefined) continue
    const values = parseBackuptoolsConf(bytes, path)
    await refuseReadable(path, values, environment)
    return values
  }
  if (named === undefined) return NONE
  throw new AgentError('CONFIG', `The configuration file ${named} does not exist.`, {
    subject: named,
    next: 'Name the right one in VCB_BACKUPTOOLS_CONF.',
  })
}

/** As ssh does with a key: a password that others can read is none. */
async function refuseReadable(path: string, values: Values, environment: CliIo['environment']): Promise<void> {
  if ((values.get('PASSWORD') ?? '') === '') return
  if (environment['VCB_PASSWORD'] !== undefined || environment['VCB_PASSWORD_FILE'] !== undefined) return
  if (((await stat(path)).mode & 0o077) === 0) return
  throw new AgentError('CONFIG', `${path} holds a password and can be read by others than its owner.`, {
    subject: path,
    next: `Run "chmod 600 ${path}", and change the password: it may be known.`,
  })
}

/** Undefined when there is no such file. */
async function readWhole(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw fromErrno(error, path) ?? error
  }
}
