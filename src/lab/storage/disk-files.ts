import { closeSync, existsSync, ftruncateSync, openSync, renameSync, statSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { type Abortable, MIB, SECTOR, throwIfAborted } from '../../core/index.ts'
import { besidePath, directoryOf, fileOf } from './datastore-path.ts'
import { type Datastore, removeFile } from './datastore.ts'
import { type Descriptor, NO_PARENT, readDescriptor, writeDescriptor } from './descriptor.ts'
import { type DiskInfo, diskInfo } from './disk-info.ts'
import { cryptoRandom, diskUuid, newContentId, type Random } from './disk-uuid.ts'
import { type DiskView, openRawView, openView } from './disk-view.ts'
import { writeExactly } from './exact-io.ts'
import { expandFixture } from './fixture.ts'
import { LabStorageError, translated } from './storage-error.ts'

/** Contents of a new disk: nothing, a committed fixture with a real file system, or another image file. */
export type DiskContent = { readonly fixture: 'ext4' | 'ntfs' } | { readonly rawFile: string }
export type DiskSpec = {
  /** `dir/x.vmdk`; its directory must exist. */
  readonly path: string
  readonly capacityBytes: number
  readonly thin: boolean
  readonly adapterType: 'lsilogic' | 'buslogic' | 'ide'
  /** `60 00 C2 9a …` or 8-4-4-4-12; derived from random bytes when absent. */
  readonly uuid?: string | undefined
  readonly hardwareVersion?: number | undefined
  readonly content?: DiskContent | undefined
}
export type CopyOptions = Abortable & {
  readonly thin?: boolean | undefined
  readonly keepUuid?: boolean | undefined
  readonly random?: Random | undefined
}

const COPY_STEP = 4 * MIB

/** Makes descriptor and flat extent. FileAlreadyExists, FileNotFound (directory), NoDiskSpace; leaves nothing behind on failure. */
export function createDisk(datastore: Datastore, spec: DiskSpec, random: Random = cryptoRandom): DiskInfo {
  const flat = extentName(spec.path, 'flat')
  return create(datastore, spec, random, { createType: 'vmfs', type: 'VMFS', file: flat }, (file) => {
    if (!spec.thin) datastore.charge(spec.capacityBytes)
    const fd = openSync(file, 'wx')
    try {
      ftruncateSync(fd, spec.capacityBytes)
      if (spec.content !== undefined) fill(datastore, spec, fd, spec.content)
    } finally {
      closeSync(fd)
    }
  })
}

function fill(datastore: Datastore, spec: DiskSpec, fd: number, content: DiskContent): void {
  const write = (offset: number, data: Uint8Array): void => {
    if (spec.thin) datastore.charge(data.length)
    writeExactly(fd, offset, data)
  }
  if ('fixture' in content) {
    expandFixture(content.fixture, spec.capacityBytes, write)
    return
  }
  using image = openRawView(content.rawFile)
  if (image.size > spec.capacityBytes) {
    throw new LabStorageError('InvalidDisk', `The image ${content.rawFile} is larger than the disk it is for.`, content.rawFile)
  }
  for (const { offset, data } of pieces(image)) write(offset, data)
}

/** A raw device mapping: descriptor and mapping file; opening it is refused, for there is no device behind it. */
export function createRdm(datastore: Datastore, spec: DiskSpec & { readonly physical: boolean }, random: Random = cryptoRandom): DiskInfo {
  const file = extentName(spec.path, spec.physical ? 'rdmp' : 'rdm')
  const createType = spec.physical ? 'vmfsPassthroughRawDeviceMap' : 'vmfsRawDeviceMap'
  return create(datastore, spec, random, { createType, type: 'VMFSRDM', file }, (path) => closeSync(openSync(path, 'wx')))
}

function create(
  datastore: Datastore,
  spec: DiskSpec,
  random: Random,
  kind: { readonly createType: string; readonly type: string; readonly file: string },
  makeExtent: (file: string) => void,
): DiskInfo {
  const subject = datastore.datastorePath(spec.path)
  if (!Number.isSafeInteger(spec.capacityBytes) || spec.capacityBytes < SECTOR || spec.capacityBytes % SECTOR !== 0) {
    throw new LabStorageError('InvalidDisk', `A capacity of ${spec.capacityBytes} bytes is not a whole number of sectors.`, subject)
  }
  const file = datastore.path(kind.file)
  if (existsSync(datastore.path(spec.path)) || existsSync(file)) {
    throw new LabStorageError('FileAlreadyExists', `File ${subject} already exists.`, subject)
  }
  const parent = datastore.path(directoryOf(spec.path))
  if (!existsSync(parent)) throw new LabStorageError('FileNotFound', `The directory of ${subject} was not found.`, subject)
  try {
    translated(subject, () => makeExtent(file))
    const extents = [{ access: 'RW', sectors: spec.capacityBytes / SECTOR, type: kind.type, file: fileOf(kind.file) }]
    const { cid, long } = newContentId(random)
    const ddb = ddbOf(spec, long, diskUuid(spec.uuid, random))
    writeDescriptor(datastore, spec.path, { version: 1, cid, parentCid: NO_PARENT, createType: kind.createType, extents, ddb })
  } catch (error) {
    removeFile(file)
    throw error
  }
  return diskInfo(datastore, spec.path)
}

function ddbOf(spec: DiskSpec, long: string, uuid: string): Map<string, string> {
  const [heads, sectors] = spec.adapterType === 'ide' ? [16, 63] : [255, 63]
  const cylinders = Math.max(1, Math.min(65535, Math.floor(spec.capacityBytes / SECTOR / (heads * sectors))))
  const ddb = new Map([
    ['ddb.adapterType', spec.adapterType],
    ['ddb.geometry.cylinders', `${cylinders}`],
    ['ddb.geometry.heads', `${heads}`],
    ['ddb.geometry.sectors', `${sectors}`],
    ['ddb.longContentID', long],
  ])
  if (spec.thin) ddb.set('ddb.thinProvisioned', '1')
  return ddb
    .set('ddb.toolsVersion', '2147483647')
    .set('ddb.uuid', uuid)
    .set('ddb.virtualHWVersion', `${spec.hardwareVersion ?? 14}`)
}

/** `dir/x.vmdk` → `dir/x-flat.vmdk`. */
export function extentName(path: string, kind: 'flat' | 'delta' | 'sesparse' | 'ctk' | 'rdm' | 'rdmp'): string {
  return `${path.replace(/\.vmdk$/, '')}-${kind}.vmdk`
}

/** Removes descriptor, extents and (of a base) change tracking file of one link; missing files are no error. Children are not looked for. */
export function deleteDisk(datastore: Datastore, path: string): void {
  const files = new Set<string>()
  try {
    const info = diskInfo(datastore, path)
    for (const extent of info.extents) files.add(extent)
    if (info.parent === undefined && info.changeTrackPath !== undefined) files.add(info.changeTrackPath)
  } catch (error) {
    if (!(error instanceof LabStorageError) || error.failure !== 'FileNotFound') throw error
    // A kill may have taken the descriptor and left the rest.
    for (const kind of ['flat', 'delta', 'sesparse'] as const) files.add(extentName(path, kind))
  }
  removeFile(datastore.path(path))
  for (const file of files) removeFile(datastore.path(file))
  datastore.changed()
}

/** Renames a base disk with its files, or copies and deletes between file systems. FileLocked for a redo log. */
export async function moveDisk(from: Datastore, path: string, to: Datastore, target: string): Promise<DiskInfo> {
  const info = diskInfo(from, path)
  const subject = from.datastorePath(path)
  if (info.backing !== 'flat') throw new LabStorageError('FileLocked', `${subject} is not a base disk and cannot be moved alone.`, subject)
  if (existsSync(to.path(target))) {
    throw new LabStorageError('FileAlreadyExists', `File ${to.datastorePath(target)} already exists.`, to.datastorePath(target))
  }
  const extent = info.extents[0] ?? ''
  const moved = extentName(target, 'flat')
  if (statSync(from.directory).dev !== statSync(to.directory).dev) {
    const copied = await copyDisk(from, path, to, target, { thin: info.thin, keepUuid: true })
    deleteDisk(from, path)
    return copied
  }
  const descriptor = readDescriptor(from, path)
  translated(subject, () => renameSync(from.path(extent), to.path(moved)))
  const [line] = descriptor.extents
  const extents = line === undefined ? [] : [{ ...line, file: fileOf(moved) }]
  // Tracking does not follow a move: the next question is answered with a full read.
  writeDescriptor(to, target, { ...descriptor, version: 1, extents, changeTrackPath: undefined } satisfies Descriptor)
  removeFile(from.path(path))
  if (info.changeTrackPath !== undefined) removeFile(from.path(info.changeTrackPath))
  from.changed()
  to.changed()
  return diskInfo(to, target)
}

/** Full copy of the view through `path` into a new flat disk (CopyVirtualDisk, clone). Removed again when it fails. */
export async function copyDisk(from: Datastore, path: string, to: Datastore, target: string, options: CopyOptions = {}): Promise<DiskInfo> {
  const info = diskInfo(from, path)
  using view = openView(from, path)
  const adapterType = info.adapterType === 'ide' || info.adapterType === 'buslogic' ? info.adapterType : 'lsilogic'
  const spec = { path: target, capacityBytes: view.size, thin: options.thin ?? info.thin, adapterType } as const
  const made = createDisk(to, options.keepUuid === true ? { ...spec, uuid: info.uuid } : spec, options.random)
  try {
    const fd = openSync(to.path(made.extents[0] ?? besidePath(target, '')), 'r+')
    try {
      for (const { offset, data } of pieces(view)) {
        throwIfAborted(options)
        if (spec.thin) to.charge(data.length)
        writeExactly(fd, offset, data)
        await setImmediate()
      }
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    deleteDisk(to, target)
    throw error
  }
  return made
}

/** Data of a view in pieces of at most 4 MiB; the buffer is used again. */
function* pieces(view: DiskView): Generator<{ offset: number; data: Uint8Array }> {
  const buffer = new Uint8Array(COPY_STEP)
  for (const area of view.allocated()) {
    for (let done = 0; done < area.length; done += COPY_STEP) {
      const data = buffer.subarray(0, Math.min(COPY_STEP, area.length - done))
      view.read(area.offset + done, data)
      yield { offset: area.offset + done, data }
    }
  }
}
