import { readdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import {
  type Abortable,
  AgentError,
  anySignal,
  type ClaimId,
  ensureDirectory,
  fromErrno,
  isMissing,
  type Log,
  makeDirectory,
  type NotProtected,
  removeDirectory,
  removeTree,
  renameFile,
  safeFileName,
  syncDirectory,
  writeFileWhole,
} from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import type { Claims } from '../journal/index.ts'
import { type BackupReader, exportImage, type PointStore } from '../provider/index.ts'
import { restoredVmx, Vmx } from '../vmx/index.ts'
import { recordLocks } from './record-locks.ts'
import { chooseDisks, diskFileNames } from './restored-disks.ts'

export type DirectoryRestoreRequest = {
  readonly point: string
  /** Made if it does not exist; must be empty if it does. */
  readonly directory: string
  readonly format: ExportFormat
  /** The restored VM's name; the old one when absent. */
  readonly name?: string | undefined
  /** Labels of the disks to restore; all of the point when empty. */
  readonly disks: readonly string[]
}

export type DirectoryRestoreResult = {
  readonly directory: string
  readonly vmx: string
  readonly disks: readonly { readonly label: string; readonly file: string; readonly capacityBytes: number }[]
  readonly files: readonly { readonly name: string; readonly size: number }[]
  readonly dropped: readonly string[]
  readonly notProtected: readonly NotProtected[]
}

export type RestoreProgress = { readonly disk: string; readonly doneBytes: number; readonly totalBytes: number }
export type RestoreOptions = Abortable & { readonly onProgress?: ((progress: RestoreProgress) => void) | undefined }

/**
 * Writes a restore point as a VM folder: VMX, NVRAM and one VMDK per disk. Everything is made in a temporary directory beside the target and
 * renamed at the end, so that a failed restore leaves nothing. Errors: CONFLICT (the target is not empty), CAPACITY, INTEGRITY, NOT_FOUND.
 */
export async function restoreToDirectory(
  points: PointStore,
  claims: Claims,
  request: DirectoryRestoreRequest,
  asked: RestoreOptions & { readonly log: Log },
): Promise<DirectoryRestoreResult> {
  const target = resolve(request.directory)
  await refuseTarget(target)
  await using hold = await points.hold({ signal: asked.signal, recordLocks: recordLocks(claims) })
  const options = { ...asked, signal: anySignal(asked.signal, hold.signal) }
  await using reader = await points.open(request.point, options)
  const { manifest } = reader
  const disks = chooseDisks(manifest, request.disks)
  const name = request.name ?? manifest.vm.name
  const base = safeFileName(name)
  const files = diskFileNames(base, disks)

  const held = await claims.take('partialFile', { path: target }, [], async (claim) => {
    const path = partialDirectory(target, claim)
    await ensureDirectory(dirname(target))
    await makeDirectory(path)
    return { path }
  })
  const partial = held.ref.path
  const written: { name: string; size: number }[] = []
  for (const disk of disks) {
    await using source = await reader.disk(disk.key, options)
    const stem = (files.get(disk.label) ?? '').replace(/\.vmdk$/, '')
    const exported = await exportImage(
      manifest,
      disk,
      source,
      { directory: partial, stem, format: request.format },
      {
        signal: options.signal,
        onProgress: (at) => options.onProgress?.({ disk: disk.label, doneBytes: at.doneBytes, totalBytes: disk.capacityBytes }),
      },
    )
    written.push(...exported.files)
  }
  const nvram = await saveNvram(reader, partial, base, written, options)
  const { vmx, dropped } = restoredVmx(await savedVmx(reader, options), manifest.config, { name, disks: files, nvram, keepIdentity: true })
  const text = vmx.format()
  await writeFileWhole(join(partial, `${base}.vmx`), text)
  written.push({ name: `${base}.vmx`, size: Buffer.byteLength(text) })
  await syncDirectory(partial)
  await install(partial, target)
  await claims.keep(held.id)
  return {
    directory: target,
    vmx: join(target, `${base}.vmx`),
    disks: disks.map((disk) => ({ label: disk.label, file: files.get(disk.label) ?? '', capacityBytes: disk.capacityBytes })),
    files: written,
    dropped,
    notProtected: manifest.notProtected,
  }
}

/** Where a restore to `target` under this claim works: how the claim's releaser finds it. */
export const partialDirectory = (target: string, claim: ClaimId): string => `${target}.vcb-${claim}.partial`

/** Removes an unfinished restore. Idempotent. */
export async function removePartial(path: string): Promise<void> {
  await removeTree(path)
}

/** The `.vmx` saved in the point; undefined when the point has none. */
export async function savedVmx(reader: BackupReader, options?: Abortable): Promise<Vmx | undefined> {
  const file = reader.manifest.files.find((each) => each.name.toLowerCase().endsWith('.vmx'))
  return file === undefined ? undefined : Vmx.parse(await reader.file(file.name, options), file.name)
}

/** The `.nvram` saved in the point. */
export async function savedNvram(reader: BackupReader, options?: Abortable): Promise<Uint8Array | undefined> {
  const file = reader.manifest.files.find((each) => each.name.toLowerCase().endsWith('.nvram'))
  return file === undefined ? undefined : reader.file(file.name, options)
}

async function saveNvram(
  reader: BackupReader,
  directory: string,
  base: string,
  written: { name: string; size: number }[],
  options: Abortable,
): Promise<string | undefined> {
  const body = await savedNvram(reader, options)
  if (body === undefined) return undefined
  const name = `${base}.nvram`
  await writeFileWhole(join(directory, name), body)
  written.push({ name, size: body.length })
  return name
}

async function refuseTarget(target: string): Promise<void> {
  try {
    if ((await readdir(target)).length === 0) return
  } catch (error) {
    if (isMissing(error)) return
    if (error instanceof Error && 'code' in error && error.code === 'ENOTDIR') {
      throw new AgentError('CONFLICT', `${target} exists and is not a directory.`, {
        subject: target,
        retry: 'never',
        next: 'Name another directory.',
        cause: error,
      })
    }
    throw fromErrno(error, target) ?? error
  }
  throw new AgentError('CONFLICT', `The directory ${target} is not empty.`, {
    subject: target,
    retry: 'never',
    next: 'Name another directory, or empty this one.',
  })
}

async function install(partial: string, target: string): Promise<void> {
  try {
    await removeDirectory(target)
  } catch (error) {
    throw fromErrno(error, target) ?? error
  }
  await renameFile(partial, target)
  await syncDirectory(dirname(target))
}
