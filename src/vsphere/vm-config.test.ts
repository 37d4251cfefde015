import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseDevices, parseDisks } from './device.ts'
import type { ObjectProps } from './property-collector.ts'
import type { VimNode } from './vim-node.ts'
import { countSnapshots, parseVmConfig, withConfigInfo } from './vm-config.ts'
import { readXml } from './xml-reader.ts'

const xml = (inside: string): VimNode => readXml(`<r xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">${inside}</r>`)
const around = { vcenterUuid: 'vc', path: '/DC/vm/web', hostName: 'esx1', datastores: [] }

/** The first VM of an answer that VMware's simulator gave. */
function recorded(): ObjectProps {
  const answer = readXml(readFileSync(join(import.meta.dirname, '..', '..', 'test', 'golden', 'soap', 'retrieve-vms.xml')))
  const object = answer.get('Body')?.children[0]?.get('returnval.objects')
  const obj = object?.ref('obj')
  if (object === undefined || obj === undefined) throw new Error('no object recorded')
  const props = new Map<string, VimNode>()
  for (const set of object.all('propSet')) {
    const value = set.get('val')
    if (value !== undefined) props.set(set.string('name') ?? '', value)
  }
  return { obj, props, missing: new Map() }
}

const CONTROLLERS =
  '<device xsi:type="ParaVirtualSCSIController"><key>1000</key><busNumber>0</busNumber><sharedBus>noSharing</sharedBus></device>' +
  '<device xsi:type="VirtualLsiLogicSASController"><key>1001</key><busNumber>1</busNumber><sharedBus>physicalSharing</sharedBus></device>' +
  '<device xsi:type="VirtualAHCIController"><key>15000</key><busNumber>0</busNumber></device>' +
  '<device xsi:type="VirtualIDEController"><key>201</key><busNumber>1</busNumber></device>' +
  '<device xsi:type="VirtualNVMEController"><key>31000</key><busNumber>0</busNumber></device>'
const disk = (key: number, controller: number, unit: number, backing: string, size = '<capacityInKB>2048</capacityInKB>'): string =>
  `<device xsi:type="VirtualDisk"><key>${key}</key>${backing}<controllerKey>${controller}</controllerKey><unitNumber>${unit}</unitNumber>${size}</device>`
const backing = (kind: string, inside: string): string => `<backing xsi:type="VirtualDisk${kind}BackingInfo">${inside}</backing>`

describe('devices', () => {
  it('labels disks by controller, walks their chains, knows their kinds', () => {
    const chain =
      '<fileName>[ds] w/w-000002.vmdk</fileName><diskMode>persistent</diskMode><uuid>u</uuid><changeId>52 de/9</changeId>' +
      '<parent xsi:type="VirtualDiskSeSparseBackingInfo"><fileName>[ds] w/w-000001.vmdk</fileName><parent><fileName>[ds] w/w.vmdk</fileName></parent></parent>'
    const disks = parseDisks(
      xml(
        CONTROLLERS +
          disk(
            2000,
            1000,
            0,
            backing('SeSparse', chain),
            '<capacityInKB>1</capacityInKB><capacityInBytes>4398046511104</capacityInBytes>',
          ) +
          disk(
            2017,
            1001,
            3,
            backing('RawDiskMappingVer1', '<fileName>[ds] r.vmdk</fileName><compatibilityMode>physicalMode</compatibilityMode>'),
          ) +
          disk(
            16000,
            15000,
            1,
            backing('FlatVer2', '<fileName>[ds] f.vmdk</fileName><thinProvisioned>true</thinProvisioned><changeId></changeId>'),
          ) +
          disk(
            3002,
            201,
            0,
            backing('RawDiskMappingVer1', '<fileName>[ds] v.vmdk</fileName><compatibilityMode>virtualMode</compatibilityMode>'),
          ) +
          disk(32000, 31000, 14, backing('LocalPMem', '<fileName>[p] x</fileName>')) +
          disk(9, 4711, 0, ''),
      ).all('device'),
    )
    expect(disks.map(({ label, backing: kind }) => [label, kind])).toEqual([
      ['scsi0:0', 'seSparse'],
      ['scsi1:3', 'rdmPhysical'],
      ['sata0:1', 'flat'],
      ['ide1:0', 'rdmVirtual'],
      ['nvme0:14', 'unknown'],
      ['disk9', 'unknown'],
    ])
    expect(disks[0]).toMatchObject({
      capacityBytes: 4398046511104,
      fileName: '[ds] w/w-000002.vmdk',
      chain: ['[ds] w/w-000002.vmdk', '[ds] w/w-000001.vmdk', '[ds] w/w.vmdk'],
      changeId: '52 de/9',
    })
    expect(disks[1]?.capacityBytes).toBe(2 * 1024 * 1024)
    expect(disks[2]).toMatchObject({ thin: true, changeId: undefined })
  })

  it('names networks of plain and distributed adapters', () => {
    const nic = (inside: string): string =>
      `<device xsi:type="VirtualVmxnet3"><key>4000</key><deviceInfo><summary>DVSwitch: 50</summary></deviceInfo>${inside}<macAddress>00:50:56:00:00:01</macAddress></device>`
    const plain = nic('<backing xsi:type="VirtualEthernetCardNetworkBackingInfo"><deviceName>VM Network</deviceName></backing>')
    const group = nic(
      '<backing xsi:type="VirtualEthernetCardDistributedVirtualPortBackingInfo"><port><portgroupKey>dvportgroup-7</portgroupKey></port></backing>',
    )
    const networks = new Map([['dvportgroup-7', 'Backup LAN']])
    expect(parseDevices(xml(plain + group).all('device'), networks).map(({ network }) => network)).toEqual(['VM Network', 'Backup LAN'])
  })

  it('refuses a device without a key and a chain without an end', () => {
    expect(() => parseDisks(xml('<device xsi:type="VirtualDisk"/>').all('device'))).toThrow(/without a key/)
  })
})

describe('parseVmConfig', () => {
  it("reads what VMware's simulator sent", () => {
    const config = parseVmConfig(recorded(), around)
    expect(config).toMatchObject({
      vm: { name: 'DC0_H0_VM0', path: '/DC/vm/web', vcenterUuid: 'vc' },
      powerState: 'poweredOn',
      connectionState: 'connected',
      numCpu: 1,
      memoryMb: 32,
      vmPathName: '[LocalDS_0] DC0_H0_VM0/DC0_H0_VM0.vmx',
      encrypted: false,
    })
    expect(config.vm.instanceUuid).toMatch(/^[0-9a-f-]{36}$/)
    expect(config.disks[0]).toMatchObject({ label: 'scsi0:0', capacityBytes: 1048576 })
  })

  it.each([
    ['inaccessible', new Map(), 'UNAVAILABLE', /its connection state is inaccessible/],
    ['connected', new Map(), 'UNAVAILABLE', /being created/],
    ['connected', new Map([['config', 'NoPermission']]), 'AUTH', /may not read/],
  ])('says why a VM without configuration (%s) cannot be read', (connection, missing, code, words) => {
    const { obj } = recorded()
    const props = new Map([['runtime.connectionState', readXml(`<val>${connection}</val>`)]])
    expect(() => parseVmConfig({ obj, props, missing }, around)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(words) }),
    )
  })

  it("takes hardware from a snapshot's configuration and keeps what only the VM knows", () => {
    const base = parseVmConfig(recorded(), around)
    const node = xml(
      `<changeTrackingEnabled>true</changeTrackingEnabled><keyId><keyId>k</keyId></keyId><extraConfig><key>disk.EnableUUID</key><value xsi:type="xsd:string" xmlns:xsd="http://www.w3.org/2001/XMLSchema">TRUE</value></extraConfig><hardware><numCPU>4</numCPU>${CONTROLLERS}${disk(2000, 1000, 0, backing('FlatVer2', '<fileName>[ds] frozen.vmdk</fileName>'))}</hardware>`,
    )
    expect(withConfigInfo(base, node)).toMatchObject({
      vm: base.vm,
      powerState: 'poweredOn',
      numCpu: 4,
      memoryMb: 32,
      changeTrackingEnabled: true,
      encrypted: true,
      extraConfig: { 'disk.EnableUUID': 'TRUE' },
      disks: [{ fileName: '[ds] frozen.vmdk' }],
    })
  })

  it('counts every snapshot of the tree', () => {
    const node = xml(
      '<rootSnapshotList><childSnapshotList/><childSnapshotList><childSnapshotList/></childSnapshotList></rootSnapshotList><rootSnapshotList/>',
    )
    expect(countSnapshots(node.all('rootSnapshotList'))).toBe(5)
  })
})
