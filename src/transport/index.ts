/**
 * Rank 2. Ways of reading a snapshot's disk as a `BlockSource`, none of which needs VDDK, and the plan that picks one per disk.
 *
 * `san` reads the files of a mounted datastore, `https` the same files over the datastore's web server. Each proves that the files it found
 * are the disk vSphere describes before a byte is trusted. `openPlanned` tries them in the configured order, records every refusal, and goes
 * on with the next one when a transport fails in mid-run.
 */
export { httpsTransport } from './https-transport.ts'
export { mapDatastores } from './mounted-datastores.ts'
export { openPlanned, type PlannedDisk, type Refusal } from './planned-disk.ts'
export { sanTransport, type SanOptions } from './san-transport.ts'
export type { SnapshotDisk, Transport } from './transport.ts'
