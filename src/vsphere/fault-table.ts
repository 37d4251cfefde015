import type { ErrorCode, Retry } from '../core/index.ts'
import type { VimFault } from './vim-fault.ts'

/** What a fault means to us. `says` completes "METHOD on SUBJECT …"; `next` tells the user what to do. */
export type FaultMeaning = {
  readonly code: ErrorCode
  readonly says: (fault: VimFault) => string
  readonly next?: string
  readonly retry?: Retry
}

const at = (fault: VimFault, field: string): string => fault.detail?.string(field) ?? ''
const quoted = (text: string, otherwise: string): string => (text === '' ? otherwise : text)
const file = (fault: VimFault): string => quoted(at(fault, 'file'), 'a file')
const privilege = (fault: VimFault): string => {
  const missing = fault.detail?.all('missingPrivileges').flatMap((entry) => entry.all('privilegeIds').map((id) => id.text)) ?? []
  return [...new Set([at(fault, 'privilegeId'), ...missing].filter((id) => id !== ''))].join(', ')
}

const GRANT = 'Grant the privilege to the user on the vCenter root with propagation; "vcb doctor" lists what is needed.'
const LATER = 'Wait until it has ended and run the command again.'
const GUEST_NEXT = 'Look at the guest and its VMware Tools log, or allow a crash-consistent backup with --quiesce try.'
const TOOLS_NEXT = 'Start VMware Tools in the guest, or allow a crash-consistent backup with --quiesce try.'
const snapshotState = (says: string, next: string): FaultMeaning => ({ code: 'CONFLICT', says: () => says, next, retry: 'never' })
const busy = (says: string): FaultMeaning => ({ code: 'CONFLICT', says: () => says, next: LATER })
const gone = (says: (fault: VimFault) => string): FaultMeaning => ({ code: 'NOT_FOUND', says })
const hostGone = (says: string): FaultMeaning => ({
  code: 'UNAVAILABLE',
  says: () => says,
  next: 'Check the ESXi host in vCenter and run the command again.',
  retry: 'later',
})

/** Every fault that the agent's calls are documented to give, by VMware's type name. `docs/formats/vim25-wire.md` explains the families. */
export const FAULTS: Readonly<Record<string, FaultMeaning>> = Object.freeze({
  // Session
  InvalidLogin: { code: 'AUTH', says: () => 'was refused: user name or password is wrong', next: 'Check user and password.' },
  InvalidLocale: { code: 'CONFIG', says: () => 'was refused: the locale is not known' },
  NotAuthenticated: { code: 'AUTH', says: () => 'was refused: the session is not logged in', next: 'Run the command again.' },
  NoPermission: {
    code: 'AUTH',
    says: (fault) => `was refused: the user lacks the privilege ${quoted(privilege(fault), 'it needs')}`,
    next: GRANT,
  },
  RestrictedVersion: {
    code: 'CONFIG',
    says: () => 'was refused: the licence of this host allows reading only (free ESXi)',
    next: 'Configure SSH to this host (docs/ssh.md): its snapshots are then made there. Or use a licensed host or a vCenter.',
  },
  // The call itself
  ManagedObjectNotFound: gone(() => 'failed: the object does not exist any more'),
  NotFound: gone(() => 'failed: not found'),
  InvalidArgument: {
    code: 'USAGE',
    says: (fault) => `was refused: the value of ${quoted(at(fault, 'invalidProperty'), 'an argument')} is not accepted`,
  },
  InvalidProperty: { code: 'INTERNAL', says: (fault) => `was refused: there is no property ${quoted(at(fault, 'name'), 'of this name')}` },
  InvalidRequest: { code: 'INTERNAL', says: () => 'was refused: the server could not read the request' },
  InvalidType: { code: 'INTERNAL', says: () => 'was refused: the server does not know a type in the request' },
  MethodNotFound: {
    code: 'UNAVAILABLE',
    says: () => 'is not offered by this server',
    next: 'Use a newer vCenter or ESXi.',
    retry: 'never',
  },
  NotImplemented: { code: 'UNAVAILABLE', says: () => 'is not implemented by this server', next: 'Use a vCenter.', retry: 'never' },
  NotSupported: { code: 'UNAVAILABLE', says: () => 'is not supported for this object', next: 'See the reason in the log.', retry: 'never' },
  MethodDisabled: {
    code: 'CONFLICT',
    says: () => 'was refused: another product has disabled this operation on the VM',
    next: 'Look at the VM\'s disabledMethod list, and run "vcb recover" when the lock is ours.',
  },
  RequestCanceled: { code: 'UNAVAILABLE', says: () => 'was cut short by the server', retry: 'now' },
  Timedout: { code: 'UNAVAILABLE', says: () => 'took longer than the server allows', retry: 'later' },
  SystemError: { code: 'UNAVAILABLE', says: (fault) => `failed inside the server${reason(fault)}`, retry: 'later' },
  RuntimeFault: { code: 'UNAVAILABLE', says: (fault) => `failed inside the server${reason(fault)}`, retry: 'later' },
  HostNotConnected: hostGone('failed: the ESXi host is not connected to vCenter'),
  HostNotReachable: hostGone('failed: the ESXi host cannot be reached'),
  HostCommunication: hostGone('failed: vCenter cannot reach the ESXi host'),
  // Concurrency and state
  TaskInProgress: busy('was refused: another task is running on the VM'),
  ConcurrentAccess: busy('was refused: the configuration was changed by somebody else meanwhile'),
  ResourceInUse: busy('failed: a resource it needs is in use'),
  InvalidState: snapshotState('was refused: the object is in the wrong state for it', 'Look at the VM in vCenter.'),
  InvalidPowerState: {
    code: 'CONFLICT',
    says: (fault) => `was refused: the VM is ${quoted(at(fault, 'existingState'), 'in the wrong power state')}`,
    next: 'Bring the VM into the needed power state and run the command again.',
    retry: 'never',
  },
  // Names
  AlreadyExists: {
    code: 'CONFLICT',
    says: (fault) => `failed: ${quoted(at(fault, 'name'), 'it')} exists already`,
    next: 'Choose another name or remove the existing object.',
    retry: 'never',
  },
  DuplicateName: {
    code: 'CONFLICT',
    says: (fault) => `failed: the name ${quoted(at(fault, 'name'), 'wanted')} is taken`,
    next: 'Choose another name.',
    retry: 'never',
  },
  InvalidName: { code: 'USAGE', says: (fault) => `was refused: ${JSON.stringify(at(fault, 'name'))} is not a name vSphere accepts` },
  // Files
  FileNotFound: gone((fault) => `failed: ${file(fault)} does not exist`),
  FileLocked: {
    code: 'CONFLICT',
    says: (fault) => `failed: ${file(fault)} is locked by a running VM or another proxy`,
    next: 'Wait until the lock is released, or detach the disk where it is attached.',
  },
  FileAlreadyExists: {
    code: 'CONFLICT',
    says: (fault) => `failed: ${file(fault)} exists already`,
    next: 'Choose another directory or remove the file.',
    retry: 'never',
  },
  FileTooLarge: { code: 'CAPACITY', says: (fault) => `failed: ${file(fault)} would be too large for the datastore`, retry: 'never' },
  CannotAccessFile: { code: 'UNAVAILABLE', says: (fault) => `failed: ${file(fault)} cannot be accessed`, retry: 'later' },
  CannotDeleteFile: { code: 'CONFLICT', says: (fault) => `failed: ${file(fault)} cannot be deleted`, next: LATER },
  CannotCreateFile: { code: 'UNAVAILABLE', says: (fault) => `failed: ${file(fault)} cannot be created`, retry: 'never' },
  FileNotWritable: { code: 'CONFLICT', says: (fault) => `failed: ${file(fault)} cannot be written`, next: LATER },
  FileFault: { code: 'UNAVAILABLE', says: (fault) => `failed on ${file(fault)}${reason(fault)}`, retry: 'never' },
  InvalidDatastorePath: {
    code: 'USAGE',
    says: (fault) => `was refused: ${quoted(at(fault, 'datastorePath'), 'the path')} is not a datastore path`,
  },
  InvalidDatastore: gone(() => 'failed: the datastore does not exist or is not accessible'),
  DatastoreNotWritableOnHost: { code: 'CONFIG', says: () => 'failed: the host has the datastore mounted read-only' },
  NoDiskSpace: { code: 'CAPACITY', says: (fault) => `failed: ${quoted(at(fault, 'datastore'), 'the datastore')} is full` },
  InsufficientResourcesFault: { code: 'CAPACITY', says: () => 'failed: the host or cluster has not the resources for it' },
  // Snapshots and quiescing
  ApplicationQuiesceFault: { code: 'GUEST', says: () => 'failed: the applications in the guest could not be quiesced', next: GUEST_NEXT },
  FilesystemQuiesceFault: {
    code: 'GUEST',
    says: () => 'failed: the guest did not stay frozen until the snapshot was made',
    next: GUEST_NEXT,
  },
  ToolsUnavailable: { code: 'GUEST', says: () => 'failed: VMware Tools are not running in the guest', next: TOOLS_NEXT },
  TooManySnapshotLevels: snapshotState('failed: the chain of snapshots is full (32 levels)', 'Remove or consolidate snapshots of this VM.'),
  SnapshotIncompatibleDeviceInVm: snapshotState(
    'failed: a device of the VM does not allow snapshots (raw disk or shared bus)',
    'Make the disk independent or back this VM up from inside the guest.',
  ),
  SnapshotDisabled: snapshotState('was refused: snapshots are disabled for this VM', "Allow snapshots in the VM's configuration."),
  SnapshotLocked: snapshotState(
    'was refused: the snapshots of this VM are locked',
    'Wait for the other product, then run the command again.',
  ),
  SnapshotNoChange: snapshotState('failed: nothing has changed since the last snapshot', 'Run the command again.'),
  MultipleSnapshotsNotSupported: snapshotState('was refused: this VM allows one snapshot only', 'Remove the existing snapshot.'),
  MemorySnapshotOnIndependentDisk: snapshotState(
    'was refused: independent disks allow no memory snapshot',
    'Report this; vcb asks for none.',
  ),
  SnapshotFault: snapshotState('failed in the snapshot layer', "See the VM's events in vCenter."),
  // Configuration
  InvalidDeviceSpec: {
    code: 'CONFIG',
    says: (fault) => `was refused: device ${quoted(at(fault, 'deviceIndex'), 'number ?')} of the change is not accepted`,
  },
  InvalidDeviceBacking: { code: 'CONFIG', says: () => 'was refused: the backing of a device is not accepted' },
  TooManyDevices: { code: 'CONFIG', says: () => 'was refused: the VM has no room for another device' },
  VmConfigFault: { code: 'CONFIG', says: (fault) => `was refused: the configuration is not accepted${reason(fault)}` },
  InvalidVmConfig: {
    code: 'CONFIG',
    says: (fault) => `was refused: ${quoted(at(fault, 'property'), 'the configuration')} is not accepted`,
  },
  // Guest operations
  InvalidGuestLogin: {
    code: 'AUTH',
    says: () => 'was refused by the guest: user name or password is wrong',
    next: 'Check the guest credentials.',
  },
  GuestOperationsUnavailable: { code: 'GUEST', says: () => 'failed: VMware Tools are not ready in the guest', next: TOOLS_NEXT },
  GuestComponentsOutOfDate: { code: 'GUEST', says: () => 'failed: VMware Tools in the guest are too old', next: 'Update VMware Tools.' },
  GuestPermissionDenied: {
    code: 'GUEST',
    says: () => 'was refused by the guest: the account lacks permission',
    next: 'Use another guest account.',
  },
  OperationDisabledByGuest: {
    code: 'GUEST',
    says: () => 'was refused: the guest disables this operation',
    next: 'Enable it in tools.conf.',
  },
  OperationNotSupportedByGuest: { code: 'GUEST', says: () => 'is not supported by this guest', next: 'Use another quiesce method.' },
  // Trust between hosts
  SSLVerifyFault: {
    code: 'AUTH',
    says: () => 'failed: a host shows an unknown certificate',
    next: 'Check the certificates of the ESXi hosts.',
  },
} satisfies Record<string, FaultMeaning>)

/** Families whose members end alike; asked when the name itself is not in the table. */
export const FAULT_FAMILIES: readonly (readonly [suffix: string, like: string])[] = Object.freeze([
  ['QuiesceFault', 'ApplicationQuiesceFault'],
  ['SnapshotFault', 'SnapshotFault'],
  ['ConfigFault', 'VmConfigFault'],
  ['NotFound', 'NotFound'],
  ['NotSupported', 'NotSupported'],
])

function reason(fault: VimFault): string {
  return fault.message.trim() === '' ? '' : ` (${fault.message.trim().replaceAll(/\s+/g, ' ').slice(0, 300)})`
}
