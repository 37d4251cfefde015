import { expect, test } from 'vitest'
import type { AttachedDisk, DiskRef, VmRef } from '../core/index.ts'
import type { VmHardware } from '../vsphere/index.ts'
import { attachedDisk } from './hotadd-release.ts'

const FILE = '[ds] web/web.vmdk'
const ref: VmRef = { moref: 'vm-7', name: 'proxy', path: 'proxy', instanceUuid: '', biosUuid: '', vcenterUuid: '' }
const args: AttachedDisk = {
  proxy: ref,
  proxyPathName: '[ds] proxy/proxy.vmx',
  fileName: FILE,
  uuid: '',
  mode: 'independent_nonpersistent',
  before: ['[ds] proxy/proxy.vmdk'],
}
const disk = (fileName: string, ...below: string[]): DiskRef => ({
  key: 2001,
  label: 'scsi0:1',
  capacityBytes: 4096,
  backing: 'flat',
  diskMode: 'independent_nonpersistent',
  fileName,
  chain: [fileName, ...below],
  thin: true,
})
const hardware = (...disks: DiskRef[]): VmHardware => ({
  name: 'proxy',
  instanceUuid: '',
  biosUuid: '',
  vmPathName: '',
  changeVersion: undefined,
  disks,
  devices: [],
  extraConfig: new Map(),
})

test('what is detached is the disk with the file that was attached, and none that was there before', () => {
  const own = disk('[ds] proxy/proxy.vmdk')
  const ours = disk(FILE)
  expect(attachedDisk(hardware(own, ours), args)).toBe(ours)
  expect(attachedDisk(hardware(own), args)).toBeUndefined()
  expect(attachedDisk(hardware(own, ours), { ...args, before: [FILE] })).toBeUndefined()
})

test('a disk attached for writing is known below a redo log that a snapshot of the proxy VM put over it; one attached for reading gets none', () => {
  const covered = disk('[ds] web/web-000001.vmdk', FILE)
  expect(attachedDisk(hardware(covered), { ...args, mode: 'persistent' })).toBe(covered)
  // The redo log of a snapshot of its own VM, attached by somebody else.
  expect(attachedDisk(hardware(covered), args)).toBeUndefined()
})
