import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { z } from 'zod'
import {
  AgentError,
  DEFAULT_TRANSPORTS,
  fromErrno,
  isMissing,
  type QuiescePolicy,
  TRANSPORT_NAMES,
  type TransportName,
} from '../core/index.ts'
import type { ChunkCompression } from '../nfc/index.ts'
import { DEFAULT_FREEZE_LIMIT_MS } from '../quiesce/index.ts'
import { DEFAULT_REOPEN, type ReopenPolicy } from '../transport/index.ts'
import { type GuestScriptConfig, guestScriptsOf, guestScriptsSchema } from './guest-scripts-config.ts'
import { type LimitsConfig, limitsOf, limitsSchema } from './limits-config.ts'
import { bandwidth, duration, type SpaceAmount, spaceAmount } from './quantity.ts'
import { type SecretSource, secretSource } from './secret-source.ts'
import { type SshConfig, sshConfigOf, sshSchema } from './ssh-config.ts'
import { type VddkConfig, vddkConfigOf, vddkSchema } from './vddk-config.ts'

/** Ways of restoring a VM to vSphere in the order they are tried by default: each keeps thin disks thin but the last. */
export const DEFAULT_RESTORE_TRANSPORTS: readonly TransportName[] = ['lease', 'nbdssl', 'https']

/** Between two looks at a datastore's free space, ms: a full one stuns VMs, a look costs the host a little. */
const SPACE_INTERVAL_MS = 20_000

/** How long a command goes on trying to release what it holds while vCenter is away or a file is locked, ms. */
const RELEASE_FOR_MS = 15 * 60_000

/** How long a cancel waits for its releases when nothing else is said: a snapshot's removal takes minutes. ms */
const CANCEL_DEADLINE_MS = 10 * 60_000

/** An attached disk appears in the guest within seconds; a busy host takes a minute. ms */
const APPEAR_MS = 120_000

/** What a run needs to know, resolved once from flags, environment and `vcb.yaml` (in this order of precedence) and frozen. */
export type AgentConfig = {
  readonly vcenter: {
    readonly url: string | undefined
    readonly user: string | undefined
    readonly password: SecretSource
    readonly thumbprint: string | undefined
    readonly caFile: string | undefined
  }
  /** Datastore name → local directory where it is mounted, for the `san` transport. */
  readonly datastores: Readonly<Record<string, string>>
  readonly transports: readonly TransportName[]
  /** The same for restores to vSphere: `lease` and `https` bring the whole VM, the others write its disks. */
  readonly restoreTransports: readonly TransportName[]
  readonly quiesce: QuiescePolicy
  /** A guest is frozen for so long at most, ms. */
  readonly freezeLimitMs: number
  readonly space: {
    /** False = free space is neither asked for before nor watched during a run. */
    readonly guard: boolean
    /** What must stay free on each datastore; 5 GiB or 5 %, whichever is less, when absent. */
    readonly reserve: SpaceAmount | undefined
    /** Between two looks at the datastores, ms. */
    readonly intervalMs: number
  }
  /** How often a transport that broke in mid-read is opened again. */
  readonly resume: ReopenPolicy
  /** The transport hotadd: what the VM this machine is shows of itself and its disks. */
  readonly hotadd: {
    /** Name, uuid or moref of that VM; found by the SMBIOS uuid when absent. */
    readonly proxy: string | undefined
    /** `/sys` and `/dev`. */
    readonly sysfs: string
    readonly devices: string
    /** How long an attached disk may take to appear, ms. */
    readonly appearMs: number
  }
  /** The transports nbd and nbdssl. */
  readonly nfc: {
    /** What the host is asked to do to each chunk. */
    readonly compression: ChunkCompression
    /** Sessions per disk, while the host has room. */
    readonly sessions: number
  }
  /** Scripts in guests, before and after the snapshot. */
  readonly guestScripts: readonly GuestScriptConfig[]
  /** Shells of hosts. */
  readonly ssh: SshConfig
  /** What this process takes at most; docs/transports.md. */
  readonly limits: LimitsConfig
  /** VMware's own library, for those who own it; undefined = the transport vddk is not to be had. */
  readonly vddk: VddkConfig | undefined
  readonly changeTracking: boolean
  readonly repository: { readonly url: string | undefined; readonly password: SecretSource }
  /** Directory of the journal and the catalog. */
  readonly stateDirectory: string
  readonly logFile: string | undefined
  readonly logLevel: string
  /** VMs backed up at the same time. */
  readonly parallel: number
  /** How long a command tries to release what it holds before that is left to recovery, ms. */
  readonly releaseForMs: number
  /** From the cancel of a job to the moment its releases are given up and left to recovery, ms. */
  readonly cancelDeadlineMs: number
  /** The VCB commands alone. */
  readonly vcbTools: {
    /** Their `-p PASSWORD` is accepted, although everybody on this machine can read it. */
    readonly passwordArgument: boolean
    /** A `config.js` to read. */
    readonly configJs: string | undefined
  }
}

/** What the command line overrides; the same names as the long flags. */
export type ConfigFlags = {
  readonly config?: string | undefined
  readonly vcenter?: string | undefined
  readonly user?: string | undefined
  readonly passwordFile?: string | undefined
  readonly thumbprint?: string | undefined
  readonly caFile?: string | undefined
  readonly datastore?: readonly string[] | undefined
  readonly transport?: string | undefined
  readonly restoreTransport?: string | undefined
  readonly quiesce?: string | undefined
  readonly freezeLimit?: string | undefined
  readonly spaceReserve?: string | undefined
  readonly spaceGuard?: boolean | undefined
  readonly bandwidth?: string | undefined
  readonly repo?: string | undefined
  readonly repoPasswordFile?: string | undefined
  readonly stateDir?: string | undefined
  readonly parallel?: string | undefined
  readonly releaseFor?: string | undefined
  readonly cancelDeadline?: string | undefined
  readonly changeTracking?: boolean | undefined
  readonly logFile?: string | undefined
  readonly logLevel?: string | undefined
}

export type Environment = Readonly<Record<string, string | undefined>>

const transportName = z.enum(TRANSPORT_NAMES, {
  error: (issue) => `"${String(issue.input)}" is not a transport; known are ${TRANSPORT_NAMES.join(', ')}`,
})
/** A list, or text with `:`, `,` or blanks between the names; a name given twice is tried once. */
const transportList = z
  .preprocess(
    (value) => (typeof value === 'string' ? value.split(/[:,\s]+/).filter((name) => name !== '') : value),
    z.array(transportName).min(1),
  )
  .transform((names): readonly TransportName[] => [...new Set(names)])

const freezeLimit = duration(100, 4 * 3_600_000)

const releaseFor = duration(0, 24 * 3_600_000)

const cancelDeadline = duration(0, 24 * 3_600_000)

const fileSchema = z.strictObject({
  vcenter: z
    .strictObject({
      url: z.string().optional(),
      user: z.string().optional(),
      passwordFile: z.string().optional(),
      passwordEnv: z.string().optional(),
      thumbprint: z.string().optional(),
      caFile: z.string().optional(),
    })
    .optional(),
  datastores: z.record(z.string(), z.string()).optional(),
  transports: transportList.optional(),
  restore: z.strictObject({ transports: transportList.optional() }).optional(),
  quiesce: z.enum(['require', 'try', 'none']).optional(),
  freezeLimit: freezeLimit.optional(),
  space: z
    .strictObject({ guard: z.boolean().optional(), reserve: spaceAmount.optional(), interval: duration(100, 10 * 60_000).optional() })
    .optional(),
  resume: z
    .strictObject({
      attempts: z.int().min(0).max(100).optional(),
      lastAttempts: z.int().min(0).max(1000).optional(),
      delay: duration(1, 60_000).optional(),
      maxDelay: duration(1, 10 * 60_000).optional(),
    })
    .optional(),
  hotadd: z
    .strictObject({
      proxy: z.string().min(1).optional(),
      sysfs: z.string().min(1).optional(),
      devices: z.string().min(1).optional(),
      appear: duration(100, 3_600_000).optional(),
    })
    .optional(),
  nfc: z
    .strictObject({
      compression: z.enum(['none', 'zlib', 'fastlz', 'skipz']).optional(),
      sessions: z.int().min(1).max(8).optional(),
    })
    .optional(),
  ssh: sshSchema.optional(),
  guestScripts: guestScriptsSchema.optional(),
  limits: limitsSchema.optional(),
  vddk: vddkSchema.optional(),
  changeTracking: z.boolean().optional(),
  repository: z
    .strictObject({ url: z.string().optional(), passwordFile: z.string().optional(), passwordEnv: z.string().optional() })
    .optional(),
  stateDirectory: z.string().optional(),
  log: z.strictObject({ file: z.string().optional(), level: z.enum(['error', 'warn', 'info', 'debug']).optional() }).optional(),
  parallel: z.int().min(1).max(64).optional(),
  releaseFor: releaseFor.optional(),
  cancelDeadline: cancelDeadline.optional(),
  vcbTools: z.strictObject({ passwordArgument: z.boolean().optional(), configJs: z.string().optional() }).optional(),
})

/**
 * Reads `vcb.yaml` (from --config, VCB_CONFIG, or ./vcb.yaml when it exists) and lays environment and flags over it.
 * Paths in the file are relative to the file. Errors: CONFIG with the place in the file, USAGE for a wrong flag.
 */
export async function loadConfig(flags: ConfigFlags, environment: Environment): Promise<AgentConfig> {
  const named = flags.config ?? environment['VCB_CONFIG']
  const path = resolve(named ?? 'vcb.yaml')
  const file = await readConfigFile(path, named !== undefined)
  const base = dirname(path)
  const local = (value: string | undefined): string | undefined =>
    value === undefined ? undefined : isAbsolute(value) ? value : resolve(base, value)
  const datastores: Record<string, string> = {}
  for (const [name, directory] of Object.entries(file.datastores ?? {})) datastores[name] = local(directory) ?? directory
  for (const pair of [...(environment['VCB_DATASTORES']?.split(',') ?? []), ...(flags.datastore ?? [])]) {
    const at = pair.lastIndexOf('=')
    if (at <= 0 || at === pair.length - 1) {
      throw new AgentError('USAGE', `"${pair}" does not map a datastore to a directory.`, {
        next: 'Write --datastore NAME=/mounted/directory.',
      })
    }
    datastores[pair.slice(0, at)] = resolve(pair.slice(at + 1))
  }
  const ssh = sshConfigOf(file.ssh, environment, (path) => local(path) ?? path)
  const transports =
    parseFlag('--transport', transportList, flags.transport ?? environment['VCB_TRANSPORT']) ?? file.transports ?? DEFAULT_TRANSPORTS
  const restoreTransports =
    parseFlag('--transport', transportList, flags.restoreTransport ?? environment['VCB_RESTORE_TRANSPORT']) ??
    file.restore?.transports ??
    DEFAULT_RESTORE_TRANSPORTS
  const quiesce =
    parseFlag('--quiesce', z.enum(['require', 'try', 'none']), flags.quiesce ?? environment['VCB_QUIESCE']) ?? file.quiesce ?? 'try'
  const parallel = parseFlag('--parallel', z.coerce.number().int().min(1).max(64), flags.parallel) ?? file.parallel ?? 2
  const level =
    parseFlag('--log-level', z.enum(['error', 'warn', 'info', 'debug']), flags.logLevel ?? environment['VCB_LOG_LEVEL']) ??
    file.log?.level ??
    'warn'
  return Object.freeze({
    vcenter: Object.freeze({
      url: flags.vcenter ?? environment['VCB_VCENTER'] ?? file.vcenter?.url,
      user: flags.user ?? environment['VCB_USER'] ?? file.vcenter?.user,
      password: secretSource(flags.passwordFile, environment, 'VCB_PASSWORD', local(file.vcenter?.passwordFile), file.vcenter?.passwordEnv),
      thumbprint: flags.thumbprint ?? environment['VCB_THUMBPRINT'] ?? file.vcenter?.thumbprint,
      caFile: flags.caFile ?? environment['VCB_CA_FILE'] ?? local(file.vcenter?.caFile),
    }),
    datastores: Object.freeze(datastores),
    transports: Object.freeze([...transports]),
    restoreTransports: Object.freeze([...restoreTransports]),
    quiesce,
    freezeLimitMs:
      parseFlag('--freeze-limit', freezeLimit, flags.freezeLimit ?? environment['VCB_FREEZE_LIMIT']) ??
      file.freezeLimit ??
      DEFAULT_FREEZE_LIMIT_MS,
    space: Object.freeze({
      guard: flags.spaceGuard === false ? false : (file.space?.guard ?? true),
      reserve: parseFlag('--space-reserve', spaceAmount, flags.spaceReserve ?? environment['VCB_SPACE_RESERVE']) ?? file.space?.reserve,
      intervalMs: file.space?.interval ?? SPACE_INTERVAL_MS,
    }),
    resume: Object.freeze({
      attempts: file.resume?.attempts ?? DEFAULT_REOPEN.attempts,
      lastAttempts: file.resume?.lastAttempts ?? DEFAULT_REOPEN.lastAttempts,
      delayMs: file.resume?.delay ?? DEFAULT_REOPEN.delayMs,
      maxDelayMs: file.resume?.maxDelay ?? DEFAULT_REOPEN.maxDelayMs,
    }),
    hotadd: Object.freeze({
      proxy: file.hotadd?.proxy,
      sysfs: local(file.hotadd?.sysfs) ?? '/sys',
      devices: local(file.hotadd?.devices) ?? '/dev',
      appearMs: file.hotadd?.appear ?? APPEAR_MS,
    }),
    nfc: Object.freeze({
      compression: file.nfc?.compression ?? 'skipz',
      sessions: file.nfc?.sessions ?? 1,
    }),
    guestScripts: guestScriptsOf(file.guestScripts, environment, (path) => local(path) ?? path),
    ssh,
    limits: limitsOf(file.limits, parseFlag('--bandwidth', bandwidth, flags.bandwidth ?? environment['VCB_BANDWIDTH'])),
    vddk: vddkConfigOf(file.vddk, (path) => local(path) ?? path, environment),
    changeTracking: flags.changeTracking ?? file.changeTracking ?? true,
    repository: Object.freeze({
      url: flags.repo ?? environment['VCB_REPO'] ?? localRepository(file.repository?.url, base),
      password: secretSource(
        flags.repoPasswordFile,
        environment,
        'VCB_REPO_PASSWORD',
        local(file.repository?.passwordFile),
        file.repository?.passwordEnv,
      ),
    }),
    stateDirectory: resolve(
      flags.stateDir ?? environment['VCB_STATE_DIR'] ?? local(file.stateDirectory) ?? defaultStateDirectory(environment),
    ),
    logFile: flags.logFile ?? environment['VCB_LOG_FILE'] ?? local(file.log?.file),
    logLevel: level,
    parallel,
    releaseForMs:
      parseFlag('--release-for', releaseFor, flags.releaseFor ?? environment['VCB_RELEASE_FOR']) ?? file.releaseFor ?? RELEASE_FOR_MS,
    cancelDeadlineMs:
      parseFlag('--cancel-deadline', cancelDeadline, flags.cancelDeadline ?? environment['VCB_CANCEL_DEADLINE']) ??
      file.cancelDeadline ??
      CANCEL_DEADLINE_MS,
    vcbTools: Object.freeze({
      passwordArgument: file.vcbTools?.passwordArgument ?? false,
      configJs: environment['VCB_CONFIG_JS'] ?? local(file.vcbTools?.configJs),
    }),
  })
}

/** `/var/lib/vcb-proxy` for root, the user's state directory otherwise. */
function defaultStateDirectory(environment: Environment): string {
  if (process.getuid?.() === 0) return '/var/lib/vcb-proxy'
  return join(environment['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state'), 'vcb-proxy')
}

function localRepository(url: string | undefined, base: string): string | undefined {
  if (url === undefined) return undefined
  const match = /^(restic|tar|dir):(.*)$/s.exec(url)
  const [prefix, path] = match === null ? ['', url] : [`${match[1]}:`, match[2] ?? '']
  return path === '-' || isAbsolute(path) ? url : `${prefix}${resolve(base, path)}`
}

async function readConfigFile(path: string, required: boolean): Promise<z.infer<typeof fileSchema>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error) && !required) return {}
    if (isMissing(error)) throw new AgentError('CONFIG', `The configuration file ${path} does not exist.`, { subject: path, cause: error })
    throw fromErrno(error, path) ?? error
  }
  const document = parseDocument(text)
  const problem = document.errors[0]
  if (problem !== undefined)
    throw new AgentError('CONFIG', `The configuration file ${path} is not valid YAML: ${problem.message}`, { subject: path })
  const parsed = fileSchema.safeParse(document.toJS() ?? {})
  if (!parsed.success) {
    throw new AgentError('CONFIG', `The configuration file ${path} is wrong: ${describeIssues(parsed.error)}.`, { subject: path })
  }
  return parsed.data
}

/** `vcenter.url: expected string; datastores: …`, in one line. */
const describeIssues = (error: z.ZodError): string =>
  error.issues.map((issue) => `${issue.path.length > 0 ? `${issue.path.join('.')}: ` : ''}${issue.message}`).join('; ')

function parseFlag<T>(flag: string, schema: z.ZodType<T, unknown>, value: unknown): T | undefined {
  if (value === undefined) return undefined
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw new AgentError('USAGE', `The value of ${flag} is wrong: ${parsed.error.issues[0]?.message ?? 'not accepted'}.`)
  return parsed.data
}
