import type { JobId } from '../core/index.ts'
import {
  type DirectoryRestoreRequest,
  type DirectoryRestoreResult,
  restoreToDirectory,
  type RestoreProgress,
  restoreVm,
  type VmRestoreRequest,
  type VmRestoreResult,
} from '../flow/index.ts'
import type { Agent } from './agent.ts'
import { createTransports } from './transports.ts'
import { noticeWaits } from './wait-notice.ts'

export type RestoreRunOptions = { readonly onProgress?: ((progress: RestoreProgress) => void) | undefined }

/** One restore to a directory as a job: a failure leaves nothing. */
export async function runDirectoryRestore(
  agent: Agent,
  request: DirectoryRestoreRequest,
  options: RestoreRunOptions,
): Promise<DirectoryRestoreResult> {
  const points = await agent.points()
  return agent.job('restore-directory', { point: request.point, directory: request.directory }, (claims, signal) =>
    restoreToDirectory(points, claims, request, { log: agent.log, signal, onProgress: options.onProgress }),
  )
}

/** One restore to vSphere as a job: a failure leaves no half VM. */
export async function runVmRestore(agent: Agent, request: VmRestoreRequest, options: RestoreRunOptions): Promise<VmRestoreResult> {
  const vsphere = await agent.vsphere()
  await agent.recoverFirst()
  const points = await agent.points()
  const { clock, log } = agent
  const transports = createTransports(agent, vsphere, request.transports)
  let job: JobId | undefined
  const onWait = noticeWaits({
    clock,
    log,
    tell: async (wait) => {
      if (wait !== undefined) log.info('a restore waits', { point: request.point, wait })
      if (job !== undefined) await agent.journal.waits(job, wait)
    },
  })
  await using limits = agent.limits.of(request.name ?? `restore of ${request.point}`, { onWait })
  return await agent.job('restore-vm', { point: request.point, name: request.name ?? null }, (claims, signal) => {
    job = claims.job
    return restoreVm(vsphere, points, claims, request, {
      log,
      marks: agent.marks,
      writers: { transports, reopen: agent.config.resume, limits, clock, log },
      signal,
      onProgress: options.onProgress,
    })
  })
}
