import { readdir, stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { AgentError, fromErrno, isAgentError, isMissing, type PointId, type VmConfig, type VmRef } from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import { removeExport } from '../flow/index.ts'
import type { BackupReader } from '../provider/index.ts'
import type { Agent } from './agent.ts'
import { type BackupRun, runBackup } from './backup-run.ts'

export type ExportRunRequest = {
  readonly vms: readonly VmRef[]
  readonly format: ExportFormat
  /** Name of each export's directory; the VM's name when absent. */
  readonly name?: ((config: VmConfig) => string) | undefined
}

/** Exports VMs into the directory of the agent's `vcb:` repository, as a full backup that leaves change tracking as it is. As `runBackup`. */
export const runExport = (agent: Agent, { vms, format, name }: ExportRunRequest): Promise<BackupRun> =>
  runBackup(agent, {
    expressions: vms.map(({ moref }) => `moref:${moref}`),
    bulk: true,
    mode: 'full',
    quiesce: agent.config.quiesce,
    excludeDisks: [],
    init: true,
    exports: { format, name },
  })

/**
 * Removes an export, the directory included; false when there is none. For an agent whose repository is the directory above it. CONFLICT when the directory
 * holds anything that the export did not make, or is no complete export: then nothing is removed.
 */
export async function runRemoveExport(agent: Agent, directory: string): Promise<boolean> {
  try {
    if (!(await stat(directory)).isDirectory()) throw new AgentError('USAGE', `${directory} is not a directory.`, { subject: directory })
  } catch (error) {
    if (isMissing(error)) return false
    throw fromErrno(error, directory) ?? error
  }
  const store = await agent.points()
  const point = basename(directory) as PointId
  await agent.recoverFirst()
  await using reader = await store.open(point, { signal: agent.signal }).catch((error: unknown) => {
    if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND')) throw error
    throw new AgentError('CONFLICT', `${directory} is no complete export, so it is not removed.`, {
      subject: directory,
      retry: 'never',
      next: 'Remove it by hand when nobody needs what is in it.',
      cause: error,
    })
  })
  const odd = (await readdir(directory)).filter((file) => !isOfExport(reader, file))
  if (odd.length > 0)
    throw new AgentError('CONFLICT', `${directory} holds what its export did not make: ${odd.slice(0, 5).join(', ')}.`, {
      subject: directory,
      next: 'Move that elsewhere, or remove the directory by hand.',
    })
  const url = `vcb:${dirname(directory)}`
  await agent.job('vcbMounter', { remove: directory }, (claims, signal) => removeExport(store, claims, { url, point }, { signal }))
  await agent.catalog.remove(url, point)
  return true
}

/** Everything an export writes: its own lists, small files, and what belongs to its disks. */
function isOfExport({ manifest }: BackupReader, file: string): boolean {
  if (['manifest.json', 'SHA256SUMS', 'catalog'].includes(file) || manifest.files.some(({ name }) => name === file)) return true
  return (manifest.images ?? []).some(({ descriptor }) => {
    const stem = descriptor.replace(/\.vmdk$/, '')
    return file.startsWith(stem) && /^(?:\.vmdk|-flat\.vmdk|-s\d{3,}\.vmdk|\.sha256blocks)$/.test(file.slice(stem.length))
  })
}
