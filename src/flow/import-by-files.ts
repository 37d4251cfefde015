import { type Abortable, AgentError, type BlockSource, formatBytes, MIB, type MoRef, throwIfAborted } from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import type { JobLimits } from '../transport/index.ts'
import { makeVmFiles } from './new-vm-files.ts'
import { paced } from './paced.ts'
import type { RestoreOptions } from './restore-directory.ts'
import { type Imported, type VmImport, wholly } from './vm-import.ts'

/** One write to the datastore's web server. Bytes. */
const UPLOAD_BLOCK = 4 * MIB

/**
 * Imports through datastore files: a new directory, CreateVirtualDisk_Task and PUT over each flat file, PUT of the VMX, RegisterVM_Task. Works
 * where leases do not; every byte of a disk is sent, so thin disks become thick. CAPACITY when the datastore has no room for them whole.
 */
export async function importByFiles(work: VmImport, limits: JobLimits, claims: Claims, options: RestoreOptions): Promise<Imported> {
  refuseTooLittleRoom(work)
  const made = await makeVmFiles(work, claims, options)
  for (const disk of work.disks) {
    await made.createDisk(disk)
    await using _stream = await limits.stream(work.placement.datastore, options)
    await using source = await work.readDisk(disk)
    const report = (doneBytes: number): void => options.onProgress?.({ disk: disk.label, doneBytes, totalBytes: disk.capacityBytes })
    const flat = made.disk(disk).replace(/\.vmdk$/, '-flat.vmdk')
    await made.files.upload(flat, () => paced(wholeDisk(source, report, options), limits, options), source.size, options)
  }
  if (work.disks.some((disk) => disk.thin))
    work.warnings.push(
      'Thin disks became thick: datastore files are written whole. An import lease (--transport lease) or nbdssl keeps them thin.',
    )
  const held = await made.register()
  const vm: MoRef = { type: 'VirtualMachine', value: held.ref.moref }
  return {
    vm,
    claim: held.id,
    keep: [made.claim.id, held.id],
    thin: false,
    disks: wholly(work, 'https', 'datastore files'),
    unmark: () => made.unmark(),
  }
}

/** A datastore that runs full stuns the VMs on it: thin disks must not fill it by becoming thick. */
function refuseTooLittleRoom({ disks, placement: { datastore } }: VmImport): void {
  const needed = disks.reduce((sum, { capacityBytes }) => sum + capacityBytes, 0)
  if (datastore.freeBytes >= needed) return
  const has = `has ${formatBytes(datastore.freeBytes)} free, ${formatBytes(needed)} are needed`
  throw new AgentError('CAPACITY', `The datastore ${datastore.name} ${has}.`, {
    subject: datastore.name,
    next: 'Name a datastore with more room, or restore with --transport lease or nbdssl, which keep thin disks thin.',
    retry: 'never',
  })
}

/** Every byte of a disk in order; areas known as zero are not read. One block at a time. */
async function* wholeDisk(source: BlockSource, report: (doneBytes: number) => void, options: Abortable): AsyncGenerator<Uint8Array> {
  for await (const extent of source.extents({ offset: 0, length: source.size }, options)) {
    for (let at = 0; at < extent.length; at += UPLOAD_BLOCK) {
      throwIfAborted(options)
      const block = Buffer.alloc(Math.min(UPLOAD_BLOCK, extent.length - at))
      if (extent.kind === 'data') await source.read(extent.offset + at, block, options)
      yield block
      report(extent.offset + at + block.length)
    }
  }
}
