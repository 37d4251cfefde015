import { type Abortable, type BlockSource, type MoRef, MIB, throwIfAborted } from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import {
  createVirtualDisk,
  deleteDatastoreFile,
  formatDatastorePath,
  makeDirectory,
  openDatastoreFiles,
  parseDatastorePath,
  registerVm,
} from '../vsphere/index.ts'
import { restoredVmx } from '../vmx/index.ts'
import { type RestoreOptions, savedNvram, savedVmx } from './restore-directory.ts'
import { RESTORE_MARKER, restoreMarker } from '../orphans/index.ts'
import { diskFileNames } from './restored-disks.ts'
import { type Imported, restoreDirectory, type VmImport } from './vm-import.ts'

/** One write to the datastore's web server. Bytes. */
const UPLOAD_BLOCK = 4 * MIB

/**
 * Imports through datastore files: a new directory, CreateVirtualDisk_Task and PUT over each flat file, PUT of the VMX, RegisterVM_Task. Works
 * where leases do not; every byte of a disk is sent, so thin disks become thick.
 */
export async function importByFiles(work: VmImport, claims: Claims, options: RestoreOptions): Promise<Imported> {
  const { vsphere, reader, disks, placement } = work
  const { datacenter, datastore } = placement
  const files = openDatastoreFiles(vsphere, datacenter)
  const names = diskFileNames('disk', disks)

  const directory = await claims.take(
    'datastoreDirectory',
    { vcenterUuid: vsphere.about.instanceUuid, datacenter: datacenter.moref.value, path: `[${datastore.name}] ${work.name}` },
    [],
    async (claim) => {
      const path = restoreDirectory(datastore, work.name, claim)
      await makeDirectory(vsphere, datacenter.moref, path, options)
      const marker = restoreMarker(work.marks.text('directory', claims.job, claim))
      await files.upload(`${path}/${RESTORE_MARKER}`, () => once(marker), marker.length, options)
      return { datacenter: datacenter.moref.value, path }
    },
  )
  const inside = (file: string): string => {
    const base = parseDatastorePath(directory.ref.path)
    return formatDatastorePath({ datastore: base.datastore, path: `${base.path}/${file}` })
  }
  for (const disk of disks) {
    const file = names.get(disk.label) ?? ''
    await createVirtualDisk(
      vsphere,
      datacenter.moref,
      inside(file),
      { diskType: disk.thin ? 'thin' : 'preallocated', adapterType: 'lsiLogic', capacityBytes: disk.capacityBytes },
      { signal: options.signal },
    )
    await using source = await reader.disk(disk.key, options)
    const report = (doneBytes: number): void => options.onProgress?.({ disk: disk.label, doneBytes, totalBytes: disk.capacityBytes })
    await files.upload(inside(file.replace(/\.vmdk$/, '-flat.vmdk')), () => wholeDisk(source, report, options), source.size, options)
  }
  if (disks.some((disk) => disk.thin))
    work.warnings.push('Thin disks became thick: datastore files are written whole. An import lease (--via lease) keeps them thin.')

  const nvram = await savedNvram(reader, options)
  if (nvram !== undefined) await files.upload(inside('vm.nvram'), () => once(nvram), nvram.length, options)
  const saved = await savedVmx(reader, options)
  const { config } = reader.manifest
  const { vmx, dropped } = restoredVmx(saved, config, {
    name: work.name,
    disks: names,
    nvram: nvram === undefined ? undefined : 'vm.nvram',
    networks: work.networks,
    keepIdentity: work.keepIdentity,
  })
  for (const device of dropped) if (!work.dropped.includes(device)) work.dropped.push(device)

  const held = await claims.take(
    'registeredVm',
    { vcenterUuid: vsphere.about.instanceUuid, name: work.name, vmPathName: inside('vm.vmx') },
    work.replaced === undefined ? [directory.id] : [work.replaced, directory.id],
    async (claim) => {
      vmx.set('annotation', work.marks.text('vm', claims.job, claim))
      const text = Buffer.from(vmx.format())
      await files.upload(inside('vm.vmx'), () => once(text), text.length, options)
      const target = { folder: placement.folder, pool: placement.pool, host: placement.host?.moref }
      const vm = await registerVm(vsphere, target, inside('vm.vmx'), work.name, { signal: options.signal })
      return { moref: vm.value }
    },
  )
  const vm: MoRef = { type: 'VirtualMachine', value: held.ref.moref }
  const unmark = (): Promise<void> => deleteDatastoreFile(vsphere, datacenter.moref, inside(RESTORE_MARKER))
  return { vm, claim: held.id, keep: [directory.id, held.id], thin: false, unmark }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
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
