/**
 * The lab: an embedded miniature vCenter and ESXi with real disks, for newcomers, the demo and the tests.
 *
 * `startLab` runs it inside this process; `vcb lab up` runs it as its own, so that either side can be killed. Its state is on disk: a lab
 * that was killed comes up as it was. It speaks SOAP, datastore HTTP, the NFC lease URLs, the NFC disk protocol and the SSH shell of its hosts
 * with its own certificate and keys, keeps datastores as directories of real VMX and VMDK files, has guests that write while a backup runs, and breaks by rule where
 * told to.
 *
 * It shares no wire, disk or repository code with the agent, so that each can be checked by independent programs. `labCapabilities` says
 * what is simulated and what is not; an unknown method answers with a fault.
 */
export type {
  Capability,
  DiskDigest,
  FsckReport,
  Lab,
  LabControl,
  LabEndpoint,
  LabSsh,
  LabState,
  LabVmState,
  SnapshotDigests,
  WriteRequest,
  WriteResult,
} from './control/lab.ts'
export type { ActiveFault, FaultRule } from './model/index.ts'
export { labCapabilities } from './control/capabilities.ts'
export { type LabOptions, startLab } from './control/start-lab.ts'
