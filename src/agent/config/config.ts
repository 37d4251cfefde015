import { dirname } from 'node:path'
import { z } from 'zod'
import { type AgentRunConfig, agentKeys, agentOf } from './agent.ts'
import { type ApiConfig, apiKeys, apiOf } from './api.ts'
import { type DatastoresConfig, datastoresKeys, datastoresOf } from './datastores.ts'
import type { ConfigFlags } from './flags.ts'
import { type Environment, type Given, givenOver } from './given.ts'
import { type GuestScriptConfig, guestScriptsKeys, guestScriptsOf } from './guest-scripts.ts'
import { type JobConfig, jobsKeys, jobsOf } from './jobs.ts'
import { type LimitsConfig, limitsKeys, limitsOf } from './limits.ts'
import { type NoticesConfig, noticesKeys, noticesOf } from './notices.ts'
import { type QuiesceConfig, quiesceKeys, quiesceOf } from './quiesce.ts'
import { configError, configPlace, inspectConfigFile, type ReadConfig } from './read-file.ts'
import { referenceProblems } from './references.ts'
import { type NamedRepository, repositoriesKeys, repositoriesOf } from './repositories.ts'
import { type RepositoryConfig, repositoryKeys, repositoryOf } from './repository.ts'
import { type RunsConfig, runsKeys, runsOf } from './runs.ts'
import { type SitesConfig, sitesKeys, sitesOf } from './sites.ts'
import { type SpaceConfig, spaceKeys, spaceOf } from './space.ts'
import { type SshConfig, sshKeys, sshOf } from './ssh.ts'
import { type StateConfig, stateKeys, stateOf } from './state.ts'
import { type TransportsConfig, transportsKeys, transportsOf } from './transports.ts'
import { type VcbToolsConfig, vcbToolsKeys, vcbToolsOf } from './vcb-tools.ts'
import { type VcenterConfig, vcenterKeys, vcenterOf } from './vcenter.ts'
import { type VddkConfig, vddkKeys, vddkOf } from './vddk.ts'

/**
 * What a run needs to know, resolved once from flags, environment and `vcb.yaml` (in this order of precedence) and frozen. Each part belongs to one section, a file of
 * this folder: its keys in the file, and the function that lays environment and flags over them.
 */
export type AgentConfig = VcenterConfig &
  DatastoresConfig &
  TransportsConfig &
  QuiesceConfig &
  SpaceConfig &
  RunsConfig &
  RepositoryConfig &
  StateConfig &
  ApiConfig &
  SitesConfig &
  VcbToolsConfig &
  NoticesConfig & {
    /** Scripts in guests, before and after the snapshot. */
    readonly guestScripts: readonly GuestScriptConfig[]
    /** Shells of hosts. */
    readonly ssh: SshConfig
    /** What this process takes at most; docs/transports.md. */
    readonly limits: LimitsConfig
    /** VMware's own library, for those who own it; undefined = the transport vddk is not to be had. */
    readonly vddk: VddkConfig | undefined
    /** Places for restore points that jobs name, the general one among them. */
    readonly repositories: readonly NamedRepository[]
    /** How `vcb agent` goes about its work; docs/agent.md. */
    readonly agent: AgentRunConfig
    /** What the agent does by itself; docs/jobs.md. */
    readonly jobs: readonly JobConfig[]
  }

export const fileSchema = z.strictObject({
  ...vcenterKeys,
  ...datastoresKeys,
  ...transportsKeys,
  ...quiesceKeys,
  ...spaceKeys,
  ...sshKeys,
  ...guestScriptsKeys,
  ...limitsKeys,
  ...vddkKeys,
  ...runsKeys,
  ...agentKeys,
  ...repositoryKeys,
  ...stateKeys,
  ...apiKeys,
  ...sitesKeys,
  ...vcbToolsKeys,
  ...repositoriesKeys,
  ...noticesKeys,
  ...jobsKeys,
})

type ConfigFile = z.output<typeof fileSchema>

/**
 * Reads `vcb.yaml` (from --config, VCB_CONFIG, or ./vcb.yaml when it exists) and lays environment and flags over it.
 * Paths in the file are relative to the file. Errors: CONFIG with the places in the file, USAGE for a wrong flag.
 */
export async function loadConfig(flags: ConfigFlags, environment: Environment): Promise<AgentConfig> {
  const { path, data, problems } = await inspectConfig(flags, environment)
  if (data === undefined) throw configError(path, problems)
  return configOf(data, givenOver(flags, environment, dirname(path)))
}

/** The file with all that is wrong in it. CONFIG when one was named and is missing. */
export async function inspectConfig(
  flags: ConfigFlags,
  environment: Environment,
): Promise<ReadConfig<ConfigFile> & { readonly path: string }> {
  const { path, required } = configPlace(flags, environment)
  const check = (raw: unknown) => referenceProblems(raw, { flags, environment })
  return { path, ...(await inspectConfigFile(path, fileSchema, { required, check })) }
}

/** A file without problems, and what lies over it. USAGE for a wrong flag. */
export function configOf(file: ConfigFile, given: Given): AgentConfig {
  const repository = repositoryOf(file, given)
  const state = stateOf(file, given)
  const repositories = repositoriesOf(file, given, repository)
  return Object.freeze({
    ...vcenterOf(file, given),
    ...datastoresOf(file, given),
    ...transportsOf(file, given),
    ...quiesceOf(file, given),
    ...spaceOf(file, given),
    ...sshOf(file, given),
    ...guestScriptsOf(file, given),
    ...limitsOf(file, given),
    ...vddkOf(file, given),
    ...runsOf(file, given),
    ...agentOf(file, given),
    ...repository,
    ...state,
    ...apiOf(file, given, state),
    ...sitesOf(file),
    ...vcbToolsOf(file, given),
    ...repositories,
    ...noticesOf(file, given),
    ...jobsOf(file, repositories),
  })
}
