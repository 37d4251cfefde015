/**
 * Rank 5. The composition root: configuration becomes an `Agent` with everything a command uses, opened on first use. `runBackup`,
 * `runDirectoryRestore` and `runVmRestore` wrap the flows in jobs of the journal; `diagnose` looks at everything and changes nothing, and
 * `runForecast` says what a backup would do. Each command needs another part of it, so each function is loaded with its first call.
 */
import { onCall } from '../core/index.ts'

export type { Agent, AgentDeps } from './agent.ts'
export type { ReportRunRequest } from './report-run.ts'
export type { ServeOptions } from './serve-jobs.ts'
export type { BackupRun, BackupRunRequest, VmOutcome } from './backup-run.ts'
export type { CanceledJob } from './cancel-jobs.ts'
export type { CheckRequest } from './check-run.ts'
export type { ConfigCheck } from './check-config.ts'
export type { AgentConfig } from './config/config.ts'
export type { ConfigFlags } from './config/flags.ts'
export { parseDuration } from './config/duration.ts'
export type { JobConfig } from './config/jobs.ts'
export { type ConfigProblem, formatProblem } from './config/problem.ts'
export { readSecret } from './config/secret-source.ts'
export { readStatePlaces, type StatePlaces } from './config/state-places.ts'
export { formatWindow } from './config/windows.ts'
export type { ExplainedConfig, ExplainedSetting, Origin } from './explain-config.ts'
export type { Finding } from './doctor.ts'
export type { DiskVerdicts, VmVerdicts } from './doctor-vm.ts'
export { exportPlace } from './export-place.ts'
export type { ExportRunRequest } from './export-run.ts'
export type { CopyRun, CopyRunRequest, PointOutcome } from './copy-run.ts'
export type { ForecastRun, VmForecast } from './foresee-run.ts'
export type { ForgetRunRequest } from './forget-run.ts'
export { HOLDER_LOG, openHolderLog } from './holder-log.ts'
export { startHolder } from './holder-process.ts'
export type { AddedKey, AddKeyRequest, KeyList, RemovedKey } from './key-run.ts'
export type { ListedKey } from '../provider/index.ts'
export type { PruneRun } from './prune-run.ts'
export type { RenewRun } from './renew-run.ts'
export type { JobLine, VmLine } from './job-list.ts'
export { type LogSettings, openLog } from './log.ts'
export type { NoticeLine } from './notice-list.ts'
export type { TestedNotice } from './test-notice.ts'
export type { PlanRequest, RunPlan } from './plan-run.ts'
export type { ProxyLine, ProxyList } from './proxy-list.ts'
export { createSupervisor, type Supervisor } from './supervisor.ts'
export type { RunOrigin } from './vm-run-record.ts'
export type { OrphanRequest, OrphanRun } from './orphans-run.ts'
export type { LeaseFacts, LeaseStatus } from './lease.ts'
export type { MountRun, MountRunRequest } from './mount-run.ts'
export type { RestoreRunOptions } from './restore-run.ts'
export type { Unmounted } from './unmount-run.ts'
export type { HeldStatus, JobStatus, StatusReport } from './status.ts'
export type { RebuiltRepository } from './rebuild-catalog.ts'

export const openAgent = onCall(async () => {
  const { Agent } = await import('./agent.ts')
  return (...words: Parameters<typeof Agent.open>) => Agent.open(...words)
})
export const cancelJobs = onCall(async () => (await import('./cancel-jobs.ts')).cancelJobs)
export const checkConfig = onCall(async () => (await import('./check-config.ts')).checkConfig)
export const diagnose = onCall(async () => (await import('./doctor.ts')).diagnose)
export const diagnoseVms = onCall(async () => (await import('./doctor-vm.ts')).diagnoseVms)
export const drainProxy = onCall(async () => (await import('./proxy-list.ts')).drainProxy)
export const listProxies = onCall(async () => (await import('./proxy-list.ts')).listProxies)
export const resumeProxy = onCall(async () => (await import('./proxy-list.ts')).resumeProxy)
export const explainConfig = onCall(async () => (await import('./explain-config.ts')).explainConfig)
export const listJobs = onCall(async () => (await import('./job-list.ts')).listJobs)
export const listKeys = onCall(async () => (await import('./key-run.ts')).listKeys)
export const runAddKey = onCall(async () => (await import('./key-run.ts')).runAddKey)
export const runRemoveKey = onCall(async () => (await import('./key-run.ts')).runRemoveKey)
export const listLeases = onCall(async () => (await import('./lease.ts')).listLeases)
export const listNotices = onCall(async () => (await import('./notice-list.ts')).listNotices)
export const loadConfig = onCall(async () => (await import('./config/config.ts')).loadConfig)
export const parseDataShare = onCall(async () => (await import('./data-share.ts')).parseDataShare)
export const parseMostRepacked = onCall(async () => (await import('./config/prune.ts')).parseMostRepacked)
export const parseMostUnused = onCall(async () => (await import('./config/prune.ts')).parseMostUnused)
export const readStatus = onCall(async () => (await import('./status.ts')).readStatus)
export const rebuildCatalog = onCall(async () => (await import('./rebuild-catalog.ts')).rebuildCatalog)
export const recoverLost = onCall(async () => (await import('./orphans-run.ts')).recoverLost)
export const runOrphans = onCall(async () => (await import('./orphans-run.ts')).runOrphans)
export const replaceJournal = onCall(async () => (await import('./journal-lost.ts')).replaceJournal)
export const runBackup = onCall(async () => (await import('./backup-run.ts')).runBackup)
export const runCheck = onCall(async () => (await import('./check-run.ts')).runCheck)
export const runCopy = onCall(async () => (await import('./copy-run.ts')).runCopy)
export const runDirectoryRestore = onCall(async () => (await import('./restore-run.ts')).runDirectoryRestore)
export const runVmRestore = onCall(async () => (await import('./restore-run.ts')).runVmRestore)
export const runExport = onCall(async () => (await import('./export-run.ts')).runExport)
export const runRemoveExport = onCall(async () => (await import('./export-run.ts')).runRemoveExport)
export const runForecast = onCall(async () => (await import('./foresee-run.ts')).runForecast)
export const runForget = onCall(async () => (await import('./forget-run.ts')).runForget)
export const runMount = onCall(async () => (await import('./mount-run.ts')).runMount)
export const runPlan = onCall(async () => (await import('./plan-run.ts')).runPlan)
export const runPrune = onCall(async () => (await import('./prune-run.ts')).runPrune)
export const runRemoveSnapshot = onCall(async () => (await import('./manual-snapshot-run.ts')).runRemoveSnapshot)
export const runTakeSnapshot = onCall(async () => (await import('./manual-snapshot-run.ts')).runTakeSnapshot)
export const runRenewal = onCall(async () => (await import('./renew-run.ts')).runRenewal)
export const shortPoints = onCall(async () => (await import('./renew-run.ts')).shortPoints)
export const runReport = onCall(async () => (await import('./report-run.ts')).runReport)
export const runUnmount = onCall(async () => (await import('./unmount-run.ts')).runUnmount)
export const runUnmountDirectory = onCall(async () => (await import('./unmount-directory.ts')).runUnmountDirectory)
export const sendTestNotice = onCall(async () => (await import('./test-notice.ts')).sendTestNotice)
export const serveJobs = onCall(async () => (await import('./serve-jobs.ts')).serveJobs)
