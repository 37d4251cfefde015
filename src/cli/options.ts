import { type Command, Option } from 'commander'
import type { ConfigFlags } from '../agent/index.ts'
import { DEFAULT_TRANSPORTS, TRANSPORT_NAMES } from '../core/index.ts'

const collect = (value: string, before: readonly string[] | undefined): readonly string[] => [...(before ?? []), value]

/** Where a command's own flags stand in its help, whatever was added before. */
const OWN = 'Options:'

/** Flags of every command that talks to vCenter or ESXi. Each has an environment variable; see "vcb help connection". */
export function withConnection(command: Command): Command {
  return command
    .optionsGroup('Connection:')
    .option('--vcenter <url>', 'vCenter or ESXi, https://HOST[:PORT] (VCB_VCENTER)')
    .option('--user <name>', 'login name (VCB_USER)')
    .option('--password-file <file>', 'file with the password, - for standard input (VCB_PASSWORD_FILE)')
    .option('--thumbprint <hex>', 'pinned certificate, SHA-256 or SHA-1 (VCB_THUMBPRINT)')
    .option('--ca-file <file>', 'PEM file of the certificate authority to trust (VCB_CA_FILE)')
    .optionsGroup(OWN)
}

/** Flags of every command that opens a repository. */
export function withRepository(command: Command): Command {
  return command
    .optionsGroup('Repository:')
    .option(
      '--repo <url>',
      'repository: DIR or restic:DIR, tar:PATH, dir:PATH, tape:DIR, borg:REPOSITORY, restic-binary:REPOSITORY, command:PROGRAM (VCB_REPO)',
    )
    .option('--repo-password-file <file>', 'file with the repository password, - for standard input (VCB_REPO_PASSWORD_FILE)')
    .optionsGroup(OWN)
}

/** Flags of every command at all. */
export function withCommon(command: Command): Command {
  return command
    .optionsGroup('Configuration, log and output:')
    .option('--config <file>', 'configuration file, ./vcb.yaml when it exists (VCB_CONFIG)')
    .option('--state-dir <dir>', 'directory of the journal and the catalog (VCB_STATE_DIR)')
    .option('--log-file <file>', 'write the log there as JSON lines (VCB_LOG_FILE)')
    .option('--log-level <level>', 'error, warn, info or debug (VCB_LOG_LEVEL)')
    .option('--json', 'print the result as JSON')
    .optionsGroup(OWN)
}

/** Flags of commands that run jobs. */
export function withJobs(command: Command): Command {
  return command
    .optionsGroup('Releases:')
    .option('--cancel-deadline <time>', 'how long a cancel waits for its releases (VCB_CANCEL_DEADLINE); 10m when not set')
    .option(
      '--release-for <time>',
      'how long a release is tried again while vCenter is away or a file locked (VCB_RELEASE_FOR); 15m when not set',
    )
    .optionsGroup(OWN)
}

/** Flags of commands that read disks. */
export function withTransports(command: Command): Command {
  return command
    .optionsGroup('Transports:')
    .option('--datastore <name=dir>', 'where a datastore is mounted here, for transport san; repeatable (VCB_DATASTORES)', collect)
    .option(
      '--transport <list>',
      `transports to try, in order (VCB_TRANSPORT); of ${TRANSPORT_NAMES.join(', ')}; ${DEFAULT_TRANSPORTS.join(':')} when not set`,
    )
    .optionsGroup(OWN)
}

/** Flags of every command that takes a snapshot of its own. */
export function withSnapshot(command: Command): Command {
  return command
    .optionsGroup('Quiescing and room for the snapshot:')
    .option('--quiesce <policy>', 'require, try or none (VCB_QUIESCE); try when not set')
    .option('--freeze-limit <time>', 'a guest is frozen for so long at most (VCB_FREEZE_LIMIT); 2m when not set')
    .option('--windows-quiesce <context>', 'of Windows guests: auto, backup or file-share, for VSS (VCB_WINDOWS_QUIESCE)')
    .addOption(
      new Option(
        '--guest-script-policy <policy>',
        'when a pre-freeze script of vcb.yaml fails: require ends the command, try goes on',
      ).choices(['require', 'try']),
    )
    .option('--no-guest-scripts', 'run none of the guest scripts of vcb.yaml')
    .option('--space-reserve <amount>', 'what must stay free on each datastore, 5GiB or 5% (VCB_SPACE_RESERVE)')
    .option('--no-space-guard', 'neither ask for nor watch the free space of datastores')
    .optionsGroup(OWN)
}

/** What `withSnapshot` adds beyond the configuration. */
export type SnapshotFlags = { readonly guestScripts?: boolean | undefined; readonly guestScriptPolicy?: 'require' | 'try' | undefined }

/** False = no guest scripts; otherwise the policy that stands instead of their own, if any. */
export const guestScriptsOf = (flags: SnapshotFlags): false | 'require' | 'try' | undefined =>
  flags.guestScripts === false ? false : flags.guestScriptPolicy

export const repeatable = collect

/** What commander parsed; the names of the long flags in camel case. */
export type CommandFlags = ConfigFlags & { readonly json?: boolean | undefined }

export const examples = (lines: readonly string[]): string => `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}\n`
