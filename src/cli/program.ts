import { Command } from 'commander'
import { registerAgent } from './agent.ts'
import { registerAudit } from './audit.ts'
import { registerAgents } from './agents.ts'
import { registerBackup } from './backup.ts'
import { registerCancel } from './cancel.ts'
import { registerCheck } from './check.ts'
import { registerConfig } from './config.ts'
import { registerCopy } from './copy.ts'
import { registerDoctor } from './doctor.ts'
import { registerDrain } from './drain.ts'
import { registerForget } from './forget.ts'
import { registerHistory } from './history.ts'
import { registerInit } from './init.ts'
import type { CliIo } from './io.ts'
import { registerJobs } from './jobs.ts'
import { registerKey } from './key.ts'
import { registerLab } from './lab.ts'
import { registerLeases } from './leases.ts'
import { registerMount } from './mount.ts'
import { registerNotices } from './notices.ts'
import { registerOrphans } from './orphans.ts'
import { registerPlan } from './plan.ts'
import { registerPoints } from './points.ts'
import { registerPrune } from './prune.ts'
import { registerRenewLocks } from './renew-locks.ts'
import { registerRecover } from './recover.ts'
import { registerReport } from './report.ts'
import { registerRestore } from './restore.ts'
import { registerRun } from './run.ts'
import { registerShow } from './show.ts'
import { registerStatus } from './status.ts'
import { registerToken } from './token.ts'
import { registerUnmount } from './unmount.ts'
import { registerVms } from './vms.ts'
import { registerWatch } from './watch.ts'

/** The status a command that ends without an error leaves with: 12 when some of a set failed. */
export type ExitStatus = { exit: number }

const CONNECTION_HELP = `
Connection: flags, environment variables and vcb.yaml are read in this order of precedence.

  --vcenter URL            VCB_VCENTER             vcenter.url
  --user NAME              VCB_USER                vcenter.user
  --password-file FILE     VCB_PASSWORD_FILE       vcenter.passwordFile
                           VCB_PASSWORD            vcenter.passwordEnv
  --thumbprint HEX         VCB_THUMBPRINT          vcenter.thumbprint
  --ca-file FILE           VCB_CA_FILE             vcenter.caFile
  --datastore NAME=DIR     VCB_DATASTORES          datastores
  --repo URL               VCB_REPO                repository.url
  --repo-password-file F   VCB_REPO_PASSWORD_FILE  repository.passwordFile
                           VCB_REPO_PASSWORD       repository.passwordEnv
  --state-dir DIR          VCB_STATE_DIR           state.directory
                           VCB_STATE_URL           state.url
                           VCB_STATE_PASSWORD_FILE state.passwordFile
                           VCB_STATE_PASSWORD      state.passwordEnv
  --cancel-deadline TIME   VCB_CANCEL_DEADLINE     cancelDeadline

No password is ever taken from the command line: a file, - for standard input, or the environment.

Exit codes: 0 done, 1 defect, 2 usage, 3 configuration, 4 login or certificate, 5 not found, 6 locked or in the way, 7 unreachable,
8 guest could not be quiesced, 9 damaged data, 10 no space, 11 canceled, 12 some VMs or disks are not protected.
`

const VERSION = '0.1.0'

/** Every command of `vcb`. Heavy modules are imported by the command that needs them, so that --help answers at once. */
export function createProgram(io: CliIo, status: ExitStatus): Command {
  const program = new Command('vcb')
    .description('Image backup of VMware VMs from a proxy: no agent in the guest, no VDDK.')
    .version(VERSION)
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: io.err })
    .addHelpText('after', '\nRun "vcb help connection" for connection settings and exit codes.\n')
  registerVms(program, io)
  registerBackup(program, io, status)
  registerPoints(program, io, status)
  registerShow(program, io)
  registerCheck(program, io, status)
  registerRestore(program, io, status)
  registerMount(program, io, status)
  registerUnmount(program, io, status)
  registerLeases(program, io)
  registerStatus(program, io, status)
  registerAgents(program, io)
  registerCancel(program, io, status)
  registerForget(program, io, status)
  registerPrune(program, io)
  registerRenewLocks(program, io, status)
  registerCopy(program, io, status)
  registerRecover(program, io, status)
  registerOrphans(program, io, status)
  registerConfig(program, io, status)
  registerDoctor(program, io, status)
  registerInit(program, io)
  registerKey(program, io)
  registerAgent(program, io, status, VERSION)
  registerJobs(program, io)
  registerHistory(program, io)
  registerReport(program, io, status)
  registerPlan(program, io)
  registerRun(program, io, status)
  registerWatch(program, io)
  registerDrain(program, io)
  registerToken(program, io)
  registerAudit(program, io)
  registerNotices(program, io)
  registerLab(program, io, status)
  program
    .command('connection', { hidden: true })
    .description('connection settings and exit codes')
    .addHelpText('after', CONNECTION_HELP)
    .action(() => io.out(CONNECTION_HELP))
  for (const command of program.commands) command.exitOverride().configureOutput({ writeOut: io.out, writeErr: io.err })
  return program
}
