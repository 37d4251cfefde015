/**
 * The lab's model: the inventory, its VMs with their files and guests, and every operation a backup or restore uses on them.
 *
 * `World` holds the plain records and keeps them on disk; `View` is one endpoint's sight of them (vCenter or a single ESXi host);
 * `Model` joins world, files, open machines and fault rules; `createEndpoint` makes an endpoint's objects, methods and HTTP paths for the
 * wire. Operations work on the real files of `storage/` and the writing guests of `guest/`; what a client saw is durable before it sees it.
 */
export { digestNow, digestSnapshot, recordDigests, settleDigests } from './digests.ts'
export type { Endpoint } from './endpoint.ts'
export { createEndpoint, type EndpointParts } from './create-endpoint.ts'
export { type ActiveFault, type FaultRule, FaultRules, globMatches } from './fault-rules.ts'
export { directoryOf } from './datastore-path.ts'
export { type HeldLock, lockOf, locksOfVm } from './file-lock.ts'
export type { NfcQuirk } from './nfc-quirks.ts'
export type { NfcTicket } from './nfc-tickets.ts'
export { Machine } from './machine.ts'
export { Model } from './model.ts'
export type { Users } from './privilege.ts'
export { controllerOf, diskLabel, type DiskRecord, disksOf, type LinkRecord, type SnapshotRecord, type VmRecord } from './record.ts'
export { removeLeft } from './remove-left.ts'
export { createSnapshot, recoverVm, removeSnapshot } from './snapshot.ts'
export { View } from './view.ts'
export { World } from './world.ts'
