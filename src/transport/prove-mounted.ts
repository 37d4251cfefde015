import { readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Abortable, AgentError, type Clock, fromErrno, isMissing } from '../core/index.ts'
import type { DiskLink } from '../disk/index.ts'
import { insideDatastore } from './datastore-path.ts'
import { type DatastoreWitness, MAX_COMPARED_BYTES } from './datastore-witness.ts'
import type { MountedDatastore } from './mounted-datastores.ts'
import type { SnapshotDisk } from './transport.ts'

/** What was just made may be seen late: an NFS client remembers names and sizes for a while. Looks, and ms between them. */
const LOOKS = 4
const PAUSE_MS = 1500
/** Largest list of snapshots looked through, bytes. */
const MAX_LIST_BYTES = 4 * 1024 * 1024

export type MountedProof = {
  readonly links: readonly DiskLink[]
  /** Datastore path of a local file; undefined outside every mounted datastore. */
  readonly nameOf: (location: string) => string | undefined
  readonly mounted: ReadonlyMap<string, MountedDatastore>
  readonly witness: DatastoreWitness | undefined
  readonly clock: Clock
}

/**
 * Proves that the directories a disk is about to be read from show the datastores of its VM as they are now, before a byte is trusted. A directory may be mapped
 * to the wrong datastore, to one of the same name in another datacenter, or to a copy of the export that was made earlier; a mount may show an old state.
 * So the snapshot that was just taken must be seen there, and each file must be as vSphere itself shows it. INTEGRITY with what differs.
 */
export async function proveMounted(disk: SnapshotDisk, proof: MountedProof, options?: Abortable): Promise<void> {
  const own = insideDatastore(disk.disk.fileName).datastore
  const unproven = new Set<string>()
  for (const link of proof.links) await compareLink(disk, link, proof, unproven, options)
  await seeSnapshot(disk, own, proof, options)
  // Of the VM's own datastore the snapshot is proof; the parents of a linked clone may lie on others.
  unproven.delete(own)
  for (const [name, { directory, identified, by }] of proof.mounted)
    if (unproven.has(name) && !identified && by === 'configured')
      throw lies(disk, directory, `nothing proves that it is datastore ${name}, because vSphere does not show the files there`)
}

/** Descriptors byte by byte, the files of the extents by their size: a redo log that has grown since the mount last looked is found here. */
async function compareLink(
  disk: SnapshotDisk,
  { location, descriptor }: DiskLink,
  { nameOf, witness, mounted }: MountedProof,
  unproven: Set<string>,
  options?: Abortable,
): Promise<void> {
  const path = nameOf(location)
  if (path === undefined) throw lies(disk, location, 'it lies in no mounted datastore')
  const store = insideDatastore(path).datastore
  const directory = mounted.get(store)?.directory ?? location
  if (witness === undefined) {
    unproven.add(store)
    return
  }
  const here = await readSmall(location)
  const there = here === undefined ? await witness.size(path, options) : await witness.bytes(path, options)
  if ('gone' in there) throw lies(disk, directory, `vSphere has no file ${path}`)
  if ('unknown' in there) {
    unproven.add(store)
    return
  }
  const size = typeof there.is === 'number' ? there.is : there.is.length
  const same = typeof there.is === 'number' || here === undefined ? size === (await sizeOf(location)) : Buffer.compare(here, there.is) === 0
  if (!same) throw lies(disk, directory, `${path} is another there than vSphere shows it (CID ${descriptor.cid} in the directory)`)
  for (const { file } of descriptor.extents) {
    if (file === undefined || file.includes('/')) continue
    const known = await witness.size(join(dirname(path), file), options)
    if (!('is' in known)) continue
    const seen = await sizeOf(join(dirname(location), file))
    if (seen !== known.is)
      throw lies(disk, directory, `${file} has ${seen} bytes there, ${known.is} as vSphere shows it: the mount shows an old state`)
  }
}

/**
 * The snapshot is a minute old at most and its name carries an id that no other has: a directory that knows it is the datastore, and is as of now. Where the
 * VM's list of snapshots lies on another datastore, its new redo log must be there instead.
 */
async function seeSnapshot(disk: SnapshotDisk, own: string, proof: MountedProof, options?: Abortable): Promise<void> {
  const { snapshot, config } = disk
  const directory = proof.mounted.get(own)?.directory ?? ''
  const list = insideDatastore(config.vmPathName.replace(/\.vmx$/, '.vmsd'))
  const present = list.datastore === own ? undefined : await proof.witness?.present(disk.disk, options)
  const redoLog = present === undefined || insideDatastore(present).datastore !== own ? undefined : insideDatastore(present)
  let missing = ''
  for (let look = 0; look < LOOKS; look++) {
    if (look > 0) await proof.clock.sleep(PAUSE_MS, options)
    if (list.datastore === own) {
      const text = await readSmall(join(directory, ...list.path.split('/')), MAX_LIST_BYTES)
      if (text?.includes(`"${snapshot.name}"`) === true) return
      missing = `${list.path} there does not name the snapshot ${snapshot.name}`
    } else if (redoLog === undefined) {
      if (proof.mounted.get(own)?.identified === true) return
      throw lies(disk, directory, 'nothing proves that it is the datastore as of now: the list of snapshots and the redo log lie elsewhere')
    } else {
      const here = await readSmall(join(directory, ...redoLog.path.split('/')))
      const there = await proof.witness?.bytes(`[${own}] ${redoLog.path}`, options)
      const standsOn =
        here
          ?.toString('latin1')
          .toLowerCase()
          .includes(`parentcid=${proof.links[0]?.descriptor.cid ?? '?'}`) === true
      if (standsOn && there !== undefined && 'is' in there && here !== undefined && Buffer.compare(here, there.is) === 0) return
      // A host may refuse to show the redo log that it writes to. One that stands on the frozen file is one of this disk.
      if (standsOn && there !== undefined && 'unknown' in there) return
      missing = `the redo log ${redoLog.path} that the snapshot began is not there`
    }
  }
  throw lies(disk, directory, `${missing}: it is a copy, another datastore, or shows an old state`)
}

const lies = (disk: SnapshotDisk, directory: string, what: string): AgentError =>
  new AgentError('INTEGRITY', `${directory} does not show the datastore of ${disk.disk.fileName} as it is now: ${what}.`, {
    subject: directory,
    next: 'Mount that very datastore there, afresh, or take it out of the configuration and let vcb find it.',
  })

/** Undefined when it is not there or larger. Opened afresh, so that an NFS client asks the server. */
async function readSmall(path: string, most = MAX_COMPARED_BYTES): Promise<Buffer | undefined> {
  try {
    const facts = await stat(path)
    if (!facts.isFile() || facts.size > most) return undefined
    return await readFile(path)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw fromErrno(error, path) ?? error
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (isMissing(error)) return undefined
    throw fromErrno(error, path) ?? error
  }
}
