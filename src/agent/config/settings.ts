import { formatBytes } from '../../core/index.ts'
import { DEFAULT_LIMITS } from '../../transport/index.ts'
import type { AgentConfig } from './config.ts'
import type { ConfigFlags } from './flags.ts'
import { type PruneRule, pruneRuleOf } from './prune.ts'
import { formatDuration } from './duration.ts'
import { targetText } from './notices.ts'
import type { SecretSource } from './secret-source.ts'

/** A setting, the places it may come from, and what it is; for `vcb config explain`. */
export type Setting = {
  /** Of vcb.yaml; of a secret several, that which counts first. A key stands for everything below it. */
  readonly keys: readonly string[]
  readonly flag?: keyof ConfigFlags | undefined
  /** That which counts first. */
  readonly variables?: readonly string[] | undefined
  /** All places add to it; otherwise the first one counts. */
  readonly together?: boolean | undefined
  /** In words; never a secret. Undefined: it is not set, and there is nothing it is without. */
  readonly value: (config: AgentConfig) => string | undefined
}

/** Every setting but jobs, in the order they are told. A test holds it to the file's schema and the flags. */
export const SETTINGS: readonly Setting[] = [
  { keys: ['vcenter.url'], flag: 'vcenter', variables: ['VCB_VCENTER'], value: ({ vcenter }) => vcenter.url },
  { keys: ['vcenter.user'], flag: 'user', variables: ['VCB_USER'], value: ({ vcenter }) => vcenter.user },
  {
    keys: ['vcenter.passwordEnv', 'vcenter.passwordFile'],
    flag: 'passwordFile',
    variables: ['VCB_PASSWORD_FILE', 'VCB_PASSWORD'],
    value: ({ vcenter }) => secret(vcenter.password),
  },
  { keys: ['vcenter.thumbprint'], flag: 'thumbprint', variables: ['VCB_THUMBPRINT'], value: ({ vcenter }) => vcenter.thumbprint },
  { keys: ['vcenter.caFile'], flag: 'caFile', variables: ['VCB_CA_FILE'], value: ({ vcenter }) => vcenter.caFile },
  {
    keys: ['datastores'],
    flag: 'datastore',
    variables: ['VCB_DATASTORES'],
    together: true,
    value: ({ datastores }) =>
      list(
        Object.entries(datastores).map(([name, directory]) => `${name}=${directory}`),
        ', ',
      ),
  },
  { keys: ['transports'], flag: 'transport', variables: ['VCB_TRANSPORT'], value: ({ transports }) => transports.join(':') },
  {
    keys: ['restore.transports'],
    flag: 'restoreTransport',
    variables: ['VCB_RESTORE_TRANSPORT'],
    value: ({ restoreTransports }) => restoreTransports.join(':'),
  },
  { keys: ['resume.attempts'], value: ({ resume }) => String(resume.attempts) },
  { keys: ['resume.lastAttempts'], value: ({ resume }) => String(resume.lastAttempts) },
  { keys: ['resume.delay'], value: ({ resume }) => formatDuration(resume.delayMs) },
  { keys: ['resume.maxDelay'], value: ({ resume }) => formatDuration(resume.maxDelayMs) },
  { keys: ['hotadd.proxy'], value: ({ hotadd }) => hotadd.proxy ?? 'this machine, by its SMBIOS uuid' },
  { keys: ['hotadd.sysfs'], value: ({ hotadd }) => hotadd.sysfs },
  { keys: ['hotadd.devices'], value: ({ hotadd }) => hotadd.devices },
  { keys: ['hotadd.appear'], value: ({ hotadd }) => formatDuration(hotadd.appearMs) },
  { keys: ['nfc.compression'], value: ({ nfc }) => nfc.compression },
  { keys: ['nfc.sessions'], value: ({ nfc }) => String(nfc.sessions) },
  {
    keys: ['ssh.hosts'],
    value: ({ ssh }) =>
      list(
        ssh.hosts.map(({ name, user, address, port }) => `${name} (${user}@${address}:${port})`),
        ', ',
      ),
  },
  { keys: ['ssh.default'], value: ({ ssh }) => (ssh.byDefault === undefined ? undefined : 'hosts of known keys that are not listed') },
  { keys: ['ssh.snapshots'], value: ({ ssh }) => ssh.snapshots },
  { keys: ['vddk'], value: ({ vddk }) => vddk?.libdir },
  { keys: ['quiesce'], flag: 'quiesce', variables: ['VCB_QUIESCE'], value: ({ quiesce }) => quiesce },
  {
    keys: ['freezeLimit'],
    flag: 'freezeLimit',
    variables: ['VCB_FREEZE_LIMIT'],
    value: ({ freezeLimitMs }) => formatDuration(freezeLimitMs),
  },
  {
    keys: ['windowsQuiesce'],
    flag: 'windowsQuiesce',
    variables: ['VCB_WINDOWS_QUIESCE'],
    together: true,
    value: ({ windowsQuiesce }) => (windowsQuiesce === undefined ? 'as the server tells VSS' : pairs(windowsQuiesce)),
  },
  {
    keys: ['guestScripts'],
    value: ({ guestScripts }) =>
      list(
        guestScripts.map(({ name, via }) => `${name} by ${via}`),
        ', ',
      ),
  },
  { keys: ['space.guard'], flag: 'spaceGuard', value: ({ space }) => yes(space.guard) },
  {
    keys: ['space.reserve'],
    flag: 'spaceReserve',
    variables: ['VCB_SPACE_RESERVE'],
    value: ({ space: { reserve } }) =>
      reserve === undefined
        ? '5 GiB or 5 %, whichever is less'
        : 'percent' in reserve
          ? `${reserve.percent} %`
          : formatBytes(reserve.bytes),
  },
  { keys: ['space.interval'], value: ({ space }) => formatDuration(space.intervalMs) },
  { keys: ['limits.nfcPerHost'], value: ({ limits }) => String(limits.nfc?.perHost ?? 'as many as the memory has room for') },
  {
    keys: ['limits.nfcMemoryPerHost'],
    value: ({ limits: { nfc } }) => formatBytes(nfc?.memoryPerHost ?? DEFAULT_LIMITS.nfcMemoryPerHost),
  },
  { keys: ['limits.nfcPerVcenter'], value: ({ limits }) => String(limits.nfc?.perVcenter ?? DEFAULT_LIMITS.nfcPerVcenter) },
  {
    keys: ['limits.snapshotsPerDatastore'],
    value: ({ limits }) => String(limits.snapshotsPerDatastore ?? DEFAULT_LIMITS.snapshotsPerDatastore),
  },
  { keys: ['limits.streamsPerDatastore'], value: ({ limits }) => String(limits.streamsPerDatastore ?? DEFAULT_LIMITS.streamsPerDatastore) },
  { keys: ['limits.runsPerHost'], value: ({ limits }) => String(limits.runsPerHost ?? 'no limit') },
  { keys: ['limits.runsPerVcenter'], value: ({ limits }) => String(limits.runsPerVcenter ?? 'no limit') },
  { keys: ['limits.disksPerVm'], value: ({ limits }) => String(limits.disksPerVm) },
  {
    keys: ['limits.bandwidth'],
    flag: 'bandwidth',
    variables: ['VCB_BANDWIDTH'],
    value: ({ limits: { bandwidth } }) =>
      list(
        bandwidth.map(
          ({ bytesPerSecond, hours }) =>
            `${formatBytes(bytesPerSecond)}/s${hours === undefined ? '' : ` ${time(hours.from)}-${time(hours.to)}`}`,
        ),
        ', ',
      ) ?? 'no limit',
  },
  { keys: ['limits.latency'], value: ({ limits }) => (limits.latencyMs === undefined ? 'no limit' : formatDuration(limits.latencyMs)) },
  { keys: ['parallel'], flag: 'parallel', value: ({ parallel }) => String(parallel) },
  {
    keys: ['compression'],
    flag: 'compression',
    value: ({ compression }) => (typeof compression === 'number' ? `zstd ${compression}` : compression),
  },
  { keys: ['changeTracking'], flag: 'changeTracking', value: ({ changeTracking }) => yes(changeTracking) },
  { keys: ['releaseFor'], flag: 'releaseFor', variables: ['VCB_RELEASE_FOR'], value: ({ releaseForMs }) => formatDuration(releaseForMs) },
  {
    keys: ['cancelDeadline'],
    flag: 'cancelDeadline',
    variables: ['VCB_CANCEL_DEADLINE'],
    value: ({ cancelDeadlineMs }) => formatDuration(cancelDeadlineMs),
  },
  { keys: ['agent.grace'], flag: 'grace', value: ({ agent }) => formatDuration(agent.graceMs) },
  { keys: ['repository.url'], flag: 'repo', variables: ['VCB_REPO'], value: ({ repository }) => repository.url },
  {
    keys: ['repository.passwordEnv', 'repository.passwordFile'],
    flag: 'repoPasswordFile',
    variables: ['VCB_REPO_PASSWORD_FILE', 'VCB_REPO_PASSWORD'],
    value: ({ repository }) => secret(repository.password),
  },
  {
    keys: ['repository.ssh'],
    value: ({ repository: { ssh } }) =>
      ssh === undefined
        ? undefined
        : list(
            [
              ...(ssh.keyFile === undefined ? [] : [`key in ${ssh.keyFile}`]),
              ...(secret(ssh.password) === undefined ? [] : [`password ${secret(ssh.password)}`]),
              ...(ssh.fingerprints.length > 0 ? [`host key ${ssh.fingerprints.join(', ')}`] : []),
              ...(ssh.knownHosts === undefined ? [] : [`host keys in ${ssh.knownHosts}`]),
            ],
            '; ',
          ),
  },
  {
    keys: ['repository.rest'],
    value: ({ repository: { rest } }) =>
      rest === undefined
        ? undefined
        : list(
            [
              ...(rest.user === undefined ? [] : [`user ${rest.user}`]),
              ...(secret(rest.password) === undefined ? [] : [`password ${secret(rest.password)}`]),
              ...(rest.caFile === undefined ? [] : [`authority in ${rest.caFile}`]),
              ...(rest.pin === undefined ? [] : [`certificate ${rest.pin}`]),
            ],
            '; ',
          ),
  },
  {
    keys: ['repository.s3'],
    value: ({ repository: { s3 } }) =>
      s3 === undefined
        ? undefined
        : list(
            [
              ...(s3.accessKeyId === undefined ? [] : [`access key ${s3.accessKeyId}, its secret ${secret(s3.secretAccessKey)}`]),
              ...(s3.profile === undefined ? [] : [`profile ${s3.profile}`]),
              ...(s3.credentialsFile === undefined ? [] : [`key pair in ${s3.credentialsFile}`]),
              ...(s3.region === undefined ? [] : [`region ${s3.region}`]),
              ...(s3.bucketLookup === 'auto' ? [] : [`bucket in the ${s3.bucketLookup === 'dns' ? 'host name' : 'path'}`]),
              ...(s3.caFile === undefined ? [] : [`authority in ${s3.caFile}`]),
              ...(s3.storageClass === undefined ? [] : [`packs as ${s3.storageClass}`]),
              ...(s3.objectLock === undefined ? [] : [`files locked for ${s3.objectLock.days} d (${s3.objectLock.mode})`]),
            ],
            '; ',
          ),
  },
  { keys: ['repository.prune'], value: ({ repository: { prune } }) => pruneText(pruneRuleOf(prune)) },
  {
    keys: ['repositories'],
    value: ({ repositories }) =>
      list(
        repositories.filter(({ name }) => name !== 'default').map(({ name, url }) => `${name} = ${url}`),
        ', ',
      ),
  },
  {
    keys: ['state.directory', 'stateDirectory'],
    flag: 'stateDir',
    variables: ['VCB_STATE_DIR'],
    value: ({ stateDirectory }) => stateDirectory,
  },
  {
    keys: ['state.url'],
    variables: ['VCB_STATE_URL'],
    value: ({ sharedState }) => sharedState?.address.shown ?? 'none: the state directory has it all',
  },
  {
    keys: ['state.passwordEnv', 'state.passwordFile'],
    variables: ['VCB_STATE_PASSWORD_FILE', 'VCB_STATE_PASSWORD'],
    value: ({ sharedState }) => (sharedState === undefined ? undefined : secret(sharedState.password)),
  },
  { keys: ['state.caFile'], value: ({ sharedState }) => sharedState?.caFile },
  { keys: ['proxy.name'], value: ({ proxy }) => proxy.name },
  { keys: ['proxy.sites'], value: ({ proxy }) => (proxy.sites === undefined ? 'all' : list(proxy.sites, ', ')) },
  {
    keys: ['sites'],
    value: ({ sites }) =>
      list(
        sites.map(({ name, hosts, datastores }) => `${name} (hosts ${hosts.join(' ')}; datastores ${datastores.join(' ')})`),
        ', ',
      ),
  },
  {
    keys: ['notices'],
    value: ({ notices }) =>
      list(
        notices.map(
          ({ name, to, digest, on }) => `${name} = ${targetText(to)}, ${digest === undefined ? on.join('+') : digest.cron.join(', ')}`,
        ),
        '; ',
      ),
  },
  { keys: ['reportAge'], value: ({ noRpoAgeMs }) => formatDuration(noRpoAgeMs) },
  { keys: ['log.file'], flag: 'logFile', variables: ['VCB_LOG_FILE'], value: ({ logFile }) => logFile ?? 'standard error' },
  { keys: ['log.level'], flag: 'logLevel', variables: ['VCB_LOG_LEVEL'], value: ({ logLevel }) => logLevel },
  {
    keys: ['log.maxSize'],
    value: ({ logBounds }) => (logBounds === undefined ? 'the file is rotated by others' : formatBytes(logBounds.maxBytes)),
  },
  { keys: ['log.keep'], value: ({ logBounds }) => (logBounds === undefined ? undefined : String(logBounds.files)) },
  { keys: ['api.socket'], value: ({ api }) => api.socket?.path ?? 'not opened' },
  { keys: ['api.group'], value: ({ api }) => api.socket?.group },
  { keys: ['api.listen'], value: ({ api }) => (api.tcp === undefined ? 'not opened' : `${api.tcp.host}:${api.tcp.port}`) },
  { keys: ['api.tls'], value: ({ api }) => api.tcp?.tls.certificate },
  { keys: ['vcbTools.passwordArgument'], value: ({ vcbTools }) => yes(vcbTools.passwordArgument) },
  { keys: ['vcbTools.configJs'], variables: ['VCB_CONFIG_JS'], value: ({ vcbTools }) => vcbTools.configJs },
  { keys: ['vcbTools.maxHold'], value: ({ vcbTools }) => formatDuration(vcbTools.maxHoldMs) },
  { keys: ['vcbTools.idle'], value: ({ vcbTools }) => (vcbTools.idleMs === 0 ? 'never' : formatDuration(vcbTools.idleMs)) },
  { keys: ['vcbTools.cleanupMounts'], value: ({ vcbTools }) => yes(vcbTools.cleanupMounts) },
]

const yes = (value: boolean): string => (value ? 'yes' : 'no')
const list = (parts: readonly string[], between: string): string | undefined => (parts.length === 0 ? undefined : parts.join(between))
const pairs = (value: object): string =>
  Object.entries(value)
    .map(([key, each]) => `${key} ${String(each)}`)
    .join(', ')
const time = (minutes: number): string => `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`

/** Where a secret is, and not what it is. */
export function secret({ env, file }: SecretSource): string | undefined {
  if (env !== undefined) return `in the variable ${env}`
  return file === undefined ? undefined : file === '-' ? 'on standard input' : `in ${file}`
}

function pruneText(rule: PruneRule | undefined): string {
  if (rule === undefined) return 'off'
  const { everyMs, mostUnused, mostRepackedBytes } = rule
  const unused = mostUnused === 'unlimited' ? mostUnused : 'bytes' in mostUnused ? formatBytes(mostUnused.bytes) : `${mostUnused.percent}%`
  return `every ${formatDuration(everyMs)}, ${unused} may stay unused, ${formatBytes(mostRepackedBytes)} written anew at most`
}
