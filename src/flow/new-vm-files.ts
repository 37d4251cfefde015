import type { DiskFacts, MoRef } from '../core/index.ts'
import type { Claims, Held } from '../journal/index.ts'
import { RESTORE_MARKER, restoreMarker } from '../orphans/index.ts'
import { restoredVmx } from '../vmx/index.ts'
import {
  createVirtualDisk,
  type DatastoreFiles,
  deleteDatastoreFile,
  formatDatastorePath,
  makeDirectory,
  openDatastoreFiles,
  parseDatastorePath,
  registerVm,
} from '../vsphere/index.ts'
import { type RestoreOptions, savedNvram, savedVmx } from './restore-directory.ts'
import { diskFileNames } from './restored-disks.ts'
import { restoreDirectory, type VmImport } from './vm-import.ts'

/** A new directory on a datastore in which a restored VM is put together, held under a claim. */
export interface NewVmFiles {
  readonly files: DatastoreFiles
  /** Datastore path of a disk's descriptor in it. */
  disk(disk: DiskFacts): string
  /** CreateVirtualDisk_Task: empty, thin or thick as it was. */
  createDisk(disk: DiskFacts): Promise<void>
  /** Uploads NVRAM and configuration and registers the VM under a claim, which is marked in its annotation. */
  register(): Promise<Held<'registeredVm'>>
  readonly claim: Held<'datastoreDirectory'>
  /** Removes the marker from the directory: the VM is the user's now. */
  unmark(): Promise<void>
}

/** Makes the directory and its marker. Errors: those of vSphere; nothing is left of a directory that could not be made whole. */
export async function makeVmFiles(work: VmImport, claims: Claims, options: RestoreOptions): Promise<NewVmFiles> {
  const { vsphere, placement } = work
  const { datacenter, datastore } = placement
  const files = openDatastoreFiles(vsphere, datacenter)
  const names = diskFileNames('disk', work.disks)
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
  const disk = ({ label }: DiskFacts): string => inside(names.get(label) ?? '')
  return {
    files,
    disk,
    claim: directory,
    createDisk: (made) =>
      createVirtualDisk(
        vsphere,
        datacenter.moref,
        disk(made),
        { diskType: made.thin ? 'thin' : 'preallocated', adapterType: 'lsiLogic', capacityBytes: made.capacityBytes },
        { signal: options.signal },
      ),
    register: async () => {
      const { vmx, nvram } = await configuration(work, names, options)
      if (nvram !== undefined) await files.upload(inside(NVRAM), () => once(nvram), nvram.length, options)
      return claims.take(
        'registeredVm',
        { vcenterUuid: vsphere.about.instanceUuid, name: work.name, vmPathName: inside('vm.vmx') },
        work.replaced === undefined ? [directory.id] : [work.replaced, directory.id],
        async (claim) => {
          vmx.set('annotation', work.marks.text('vm', claims.job, claim))
          const text = Buffer.from(vmx.format())
          await files.upload(inside('vm.vmx'), () => once(text), text.length, options)
          const target = { folder: placement.folder, pool: placement.pool, host: placement.host.moref }
          const vm: MoRef = await registerVm(vsphere, target, inside('vm.vmx'), work.name, { signal: options.signal })
          return { moref: vm.value }
        },
      )
    },
    unmark: () => deleteDatastoreFile(vsphere, datacenter.moref, inside(RESTORE_MARKER)),
  }
}

const NVRAM = 'vm.nvram'

async function configuration(work: VmImport, disks: ReadonlyMap<string, string>, options: RestoreOptions) {
  const nvram = await savedNvram(work.reader, options)
  const { vmx, dropped } = restoredVmx(await savedVmx(work.reader, options), work.reader.manifest.config, {
    name: work.name,
    disks,
    nvram: nvram === undefined ? undefined : NVRAM,
    networks: work.networks,
    keepIdentity: work.keepIdentity,
  })
  for (const device of dropped) if (!work.dropped.includes(device)) work.dropped.push(device)
  return { vmx, nvram }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}
