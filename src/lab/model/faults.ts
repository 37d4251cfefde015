import { type LabRef, VimFault } from '../wire/index.ts'

/** The vim25 faults the model throws, each with the words a real server uses. */
export const invalidDatastorePath = (path: string): VimFault =>
  new VimFault('InvalidDatastorePath', { name: path, datastorePath: path }, `Invalid datastore path '${path}'.`)
export const fileNotFound = (file: string): VimFault => new VimFault('FileNotFound', { file }, `File ${file} was not found`)
export const fileAlreadyExists = (file: string): VimFault =>
  new VimFault('FileAlreadyExists', { file }, `Cannot complete the operation because the file or folder ${file} already exists`)
export const fileLocked = (file: string): VimFault =>
  new VimFault('FileLocked', { file }, `Unable to access file ${file} since it is locked`)
export const noDiskSpace = (file: string, datastore: string): VimFault =>
  new VimFault('NoDiskSpace', { file, datastore }, `Insufficient disk space on datastore '${datastore}'.`)
export const fileFault = (file: string, message: string): VimFault => new VimFault('FileFault', { file }, message)
export const invalidPowerState = (requested: string | undefined, existing: string): VimFault =>
  new VimFault(
    'InvalidPowerState',
    { requestedState: requested, existingState: existing },
    `The attempted operation cannot be performed in the current state (${existing === 'poweredOn' ? 'Powered on' : existing === 'suspended' ? 'Suspended' : 'Powered off'}).`,
  )
export const taskInProgress = (): VimFault => new VimFault('TaskInProgress', {}, 'Another task is already in progress.')
export const invalidState = (message: string): VimFault => new VimFault('InvalidState', {}, message)
export const notSupported = (message = 'The operation is not supported on the object.'): VimFault =>
  new VimFault('NotSupported', {}, message)
export const noPermission = (object: LabRef, privilegeId: string): VimFault =>
  new VimFault('NoPermission', { object, privilegeId }, 'Permission to perform this operation was denied.')
export const methodDisabled = (source: string, method: string): VimFault =>
  new VimFault('MethodDisabled', { source }, `The method is disabled by '${source}' (${method}).`)
export const invalidDeviceSpec = (index: number, message = `Invalid configuration for device '${index}'.`): VimFault =>
  new VimFault('InvalidDeviceSpec', { property: `virtualDeviceSpec.device`, deviceIndex: index }, message)
export const duplicateName = (name: string, object: LabRef): VimFault =>
  new VimFault('DuplicateName', { name, object }, `The name '${name}' already exists.`)

/** A FileFault with the key under which hosts report broken change tracking. */
export const changeTrackingFault = (file: string, key: 'noTrack' | 'noEpoch' | 'cannotGetChanges'): VimFault =>
  new VimFault(
    'FileFault',
    {
      faultMessage: [
        { $type: 'LocalizableMessage', key: `vim.hostd.vmsvc.cbt.${key}`, message: `Change tracking: ${key} for disk ${file}.` },
      ],
      file,
    },
    `Error caused by file ${file}`,
  )
