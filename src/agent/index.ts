/**
 * Rank 5. The composition root: configuration becomes an `Agent` with everything a command uses, opened on first use. `runBackup`,
 * `runDirectoryRestore` and `runVmRestore` wrap the flows in jobs of the journal; `diagnose` looks at everything and changes nothing, and
 * `runForecast` says what a backup would do.
 */
export { Agent, type AgentDeps } from './agent.ts'
export { type BackupRun, type BackupRunRequest, runBackup, type VmOutcome } from './backup-run.ts'
export { type CanceledJob, cancelJobs } from './cancel-jobs.ts'
export { runCheck } from './check-run.ts'
export { type AgentConfig, loadConfig } from './config/config.ts'
export type { ConfigFlags } from './config/flags.ts'
export { readSecret } from './config/secret-source.ts'
export { diagnose, type Finding } from './doctor.ts'
export { diagnoseVms, type DiskVerdicts, type VmVerdicts } from './doctor-vm.ts'
export { exportPlace, type ExportRunRequest, runExport, runRemoveExport } from './export-run.ts'
export { type ForecastRun, runForecast, type VmForecast } from './foresee-run.ts'
export { type ForgetRunRequest, runForget } from './forget-run.ts'
export { replaceJournal } from './journal-lost.ts'
export { createLog, type LogSettings } from './log.ts'
export { runRemoveSnapshot, runTakeSnapshot } from './manual-snapshot-run.ts'
export { parseDuration } from './config/quantity.ts'
export { findManualSnapshot, keptOf } from '../flow/index.ts'
export { type OrphanRequest, type OrphanRun, recoverLost, runOrphans } from './orphans-run.ts'
export { startHolder } from './holder-process.ts'
export { leaseOf, type LeaseFacts, type LeaseStatus, listLeases } from './lease.ts'
export { type MountRun, type MountRunRequest, runMount } from './mount-run.ts'
export { type RestoreRunOptions, runDirectoryRestore, runVmRestore } from './restore-run.ts'
export { runUnmount, type Unmounted } from './unmount-run.ts'
export { type HeldStatus, type JobStatus, readStatus, type StatusReport } from './status.ts'
