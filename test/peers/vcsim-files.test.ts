import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { selectVms } from '../../src/inventory/index.ts'
import {
  beginVmExport,
  createVirtualDisk,
  type Datacenter,
  deleteDatastoreFile,
  leaseManifest,
  listDatacenters,
  listDatastore,
  listDatastores,
  makeDirectory,
  openDatastoreFiles,
  openExport,
  powerOff,
  powerOn,
  registerVm,
  retrieveOne,
  unregisterVm,
  vmMoRef,
  type Vsphere,
} from '../../src/vsphere/index.ts'
import { describePeer } from '../peer.ts'
import { startVcsim, startVcsimLite } from './vcsim-server.ts'

async function firstDatacenter(vsphere: Vsphere): Promise<Datacenter> {
  const [datacenter] = await listDatacenters(vsphere)
  if (datacenter === undefined) throw new Error('no datacenter')
  return datacenter
}

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 10_000) yield bytes.subarray(at, at + 10_000)
}

describePeer('vcsim', "datastore files of VMware's simulator", (program) => {
  it('makes directories, uploads, reads in ranges and whole, lists and deletes', async () => {
    await using sim = await startVcsim(program)
    await using vsphere = await sim.connect()
    const datacenter = await firstDatacenter(vsphere)
    const [datastore] = await listDatastores(vsphere)
    if (datastore === undefined) throw new Error('no datastore')
    const files = openDatastoreFiles(vsphere, datacenter)
    const directory = `[${datastore.name}] dir ü %2f/sub`
    await makeDirectory(vsphere, datacenter.moref, directory)
    await makeDirectory(vsphere, datacenter.moref, directory, { existing: true })
    const bytes = randomBytes(300_001)
    const path = `${directory}/disk #1 & co-flat.vmdk`
    await files.upload(path, () => pieces(bytes), bytes.length)
    expect(await files.stat(path)).toEqual({ size: bytes.length, ranges: true })
    const part = new Uint8Array(70_000)
    await files.readRange(path, 123_456, part)
    expect(Buffer.compare(part, bytes.subarray(123_456, 193_456))).toBe(0)
    expect(Buffer.compare(Buffer.concat(await Array.fromAsync(files.download(path))), bytes)).toBe(0)
    expect(Buffer.compare(await files.readSmall(path, bytes.length), bytes)).toBe(0)
    await expect(files.readSmall(path, 1000)).rejects.toMatchObject({ code: 'INTEGRITY' })
    await expect(files.readRange(path, 299_000, new Uint8Array(5000))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await expect(files.stat(`${directory}/none.vmdk`)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(files.stat(`[${datastore.name}] ../../etc/passwd`)).rejects.toMatchObject({ code: 'USAGE' })
    const dsRef = { type: 'Datastore', value: datastore.moref }
    expect((await listDatastore(vsphere, dsRef, directory)).map(({ path: name, size }) => [name, size])).toEqual([
      ['disk #1 & co-flat.vmdk', bytes.length],
    ])
    await deleteDatastoreFile(vsphere, datacenter.moref, directory)
    await expect(files.stat(path)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(deleteDatastoreFile(vsphere, datacenter.moref, directory)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  it('refuses an upload of another size than announced', async () => {
    await using sim = await startVcsim(program)
    await using vsphere = await sim.connect()
    const files = openDatastoreFiles(vsphere, await firstDatacenter(vsphere))
    await expect(files.upload('[LocalDS_0] short.bin', () => pieces(new Uint8Array(5000)), 5001)).rejects.toMatchObject({
      code: 'INTEGRITY',
    })
    await expect(files.upload('[LocalDS_0] long.bin', () => pieces(new Uint8Array(5000)), 4999)).rejects.toMatchObject({
      code: 'INTEGRITY',
    })
  })

  it('makes a disk, unregisters and registers a VM, switches it off and on', async () => {
    await using sim = await startVcsim(program)
    await using vsphere = await sim.connect()
    const datacenter = await firstDatacenter(vsphere)
    const disk = { diskType: 'thin', adapterType: 'lsiLogic', capacityBytes: 1024 * 1024 } as const
    await createVirtualDisk(vsphere, datacenter.moref, '[LocalDS_0] new.vmdk', disk)
    await expect(createVirtualDisk(vsphere, datacenter.moref, '[LocalDS_0] new.vmdk', disk)).rejects.toMatchObject({ code: 'CONFLICT' })
    const [vm] = await selectVms(vsphere, ['DC0_H0_VM0'])
    if (vm === undefined) throw new Error('no VM')
    await powerOn(vsphere, vmMoRef(vm))
    await powerOff(vsphere, vmMoRef(vm))
    await powerOff(vsphere, vmMoRef(vm))
    const { props } = await retrieveOne(vsphere, vmMoRef(vm), ['parent', 'resourcePool', 'runtime.host'])
    const folder = props.get('parent')?.asRef()
    const pool = props.get('resourcePool')?.asRef()
    const host = props.get('runtime.host')?.asRef()
    if (folder === undefined || pool === undefined || host === undefined) throw new Error('no place')
    await unregisterVm(vsphere, vmMoRef(vm))
    await expect(selectVms(vsphere, ['DC0_H0_VM0'])).rejects.toMatchObject({ code: 'NOT_FOUND' })
    const again = await registerVm(vsphere, { folder, pool, host }, '[LocalDS_0] DC0_H0_VM0/DC0_H0_VM0.vmx', undefined)
    expect((await selectVms(vsphere, [`moref:${again.value}`])).map(({ name }) => name)).toEqual(['DC0_H0_VM0'])
  })
})

describePeer('vcsim-lite', "export lease in VMware's own encoding", (program) => {
  it('waits, keeps alive, downloads and completes', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'vcb-lease-'))
    try {
      const bytes = randomBytes(200_000)
      await writeFile(join(directory, 'disk.vmdk'), bytes)
      await using sim = await startVcsimLite(program, ['-vm', '1', '-nfc', join(directory, 'disk.vmdk')])
      await using vsphere = await sim.connect()
      const [vm] = await selectVms(vsphere, ['DC0_H0_VM0'])
      if (vm === undefined) throw new Error('no VM')
      await expect(beginVmExport(vsphere, vmMoRef(vm), { subject: vm.name })).rejects.toMatchObject({ code: 'CONFLICT' })
      await powerOff(vsphere, vmMoRef(vm))
      const begun = await beginVmExport(vsphere, vmMoRef(vm), { subject: vm.name })
      await using lease = await openExport(vsphere, begun, { subject: vm.name })
      const [device] = lease.devices.filter(({ disk }) => disk)
      if (device === undefined) throw new Error('no disk in the lease')
      expect(Buffer.compare(Buffer.concat(await Array.fromAsync(lease.download(device))), bytes)).toBe(0)
      lease.progress(50)
      const manifest = await leaseManifest(vsphere, lease)
      expect(manifest.map(({ key }) => key)).toContain(device.key)
      await lease.complete()
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
})
