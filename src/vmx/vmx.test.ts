import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AgentError, type VmConfig } from '../core/index.ts'
import { restoredVmx } from './restored-vmx.ts'
import { Vmx } from './vmx.ts'

const parse = (text: string): Vmx => Vmx.parse(Buffer.from(text), 'test.vmx')

describe('the .vmx format', () => {
  test('any value survives being written and read', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.stringMatching(/^[a-z][a-z0-9:._]{0,20}$/), fc.string({ unit: 'grapheme', maxLength: 60 })),
        (entries) => {
          const vmx = new Vmx()
          for (const [key, value] of Object.entries(entries)) vmx.set(key, value)
          const read = parse(vmx.format())
          for (const [key, value] of Object.entries(entries)) expect(read.get(key)).toBe(value)
        },
      ),
    )
  })

  test('keys are found whatever their case, and keep the case they were written in', () => {
    const vmx = parse('scsi0:0.fileName = "a.vmdk"\nDISPLAYNAME="x |22y|22"\n')
    expect(vmx.get('SCSI0:0.filename')).toBe('a.vmdk')
    expect(vmx.get('displayName')).toBe('x "y"')
    vmx.set('scsi0:0.FILENAME', 'b.vmdk')
    expect(vmx.format()).toContain('scsi0:0.fileName = "b.vmdk"')
  })

  test('a code page named in the file is used', () => {
    const bytes = Buffer.concat([Buffer.from('.encoding = "windows-1252"\ndisplayName = "M'), Buffer.from([0xfc]), Buffer.from('ller"\n')])
    expect(Vmx.parse(bytes, 'x').get('displayName')).toBe('Müller')
  })

  test('a line that is no setting is refused with its number', () => {
    expect(() => parse('a = "1"\nrubbish\n')).toThrow(AgentError)
    expect(() => parse('a = "1"\nrubbish\n')).toThrow(/Line 2/)
  })

  test('rubbish never throws anything but AgentError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        try {
          Vmx.parse(bytes, 'x')
        } catch (error) {
          expect(error).toBeInstanceOf(AgentError)
        }
      }),
    )
  })
})

const config: VmConfig = {
  vm: {
    moref: 'vm-1',
    name: 'web',
    instanceUuid: '50000000-0000-0000-0000-000000000001',
    biosUuid: '42000000-0000-0000-0000-000000000001',
    vcenterUuid: 'v',
    path: '/DC/vm/web',
  },
  powerState: 'poweredOn',
  connectionState: 'connected',
  isTemplate: false,
  guestId: 'debian11_64Guest',
  guestFullName: 'Debian',
  hardwareVersion: 'vmx-19',
  firmware: 'efi',
  numCpu: 2,
  memoryMb: 1024,
  annotation: 'a "note"\nof two lines',
  vmPathName: '[ds] web/web.vmx',
  changeTrackingSupported: true,
  changeTrackingEnabled: true,
  toolsRunning: true,
  consolidationNeeded: false,
  snapshotCount: 0,
  disks: [
    {
      key: 2000,
      label: 'scsi0:0',
      capacityBytes: 1,
      backing: 'flat',
      diskMode: 'persistent',
      fileName: '[ds] web/web-000001.vmdk',
      chain: [],
      thin: true,
    },
    {
      key: 2001,
      label: 'scsi0:1',
      capacityBytes: 1,
      backing: 'flat',
      diskMode: 'persistent',
      fileName: '[ds] web/web_1.vmdk',
      chain: [],
      thin: true,
    },
  ],
  devices: [
    { key: 1000, type: 'ParaVirtualSCSIController', label: 'SCSI controller 0', busNumber: 0 },
    { key: 4000, type: 'VirtualVmxnet3', label: 'Network adapter 1', network: 'VM Network', macAddress: '00:50:56:00:00:01' },
    { key: 3000, type: 'VirtualCdrom', label: 'CD/DVD drive 1', summary: 'ISO [ds] iso/x.iso' },
  ],
  extraConfig: { 'guestinfo.x': 'y', ctkEnabled: 'TRUE', 'scsi0:0.ctkEnabled': 'TRUE' },
  host: { moref: 'host-1', name: 'esx1' },
  datastores: [],
  encrypted: false,
}

describe('the VMX of a restored VM', () => {
  const saved = (): Vmx =>
    parse(
      [
        'displayName = "web"',
        'scsi0.present = "TRUE"',
        'scsi0:0.present = "TRUE"',
        'scsi0:0.fileName = "web-000001.vmdk"',
        'scsi0:0.ctkEnabled = "TRUE"',
        'scsi0:1.present = "TRUE"',
        'scsi0:1.fileName = "web_1.vmdk"',
        'ide0:0.present = "TRUE"',
        'ide0:0.deviceType = "cdrom-image"',
        'ide0:0.fileName = "/vmfs/volumes/ds/x.iso"',
        'ethernet0.present = "TRUE"',
        'ethernet0.networkName = "VM Network"',
        'ethernet0.generatedAddress = "00:50:56:00:00:01"',
        'uuid.bios = "42 00"',
        'sched.swap.derivedName = "/vmfs/x.vswp"',
        'numa.autosize = "4"',
      ].join('\n'),
    )

  test('keeps settings it does not know, names the new disks, drops tracking, swap, identity and host-bound devices', () => {
    const { vmx, dropped } = restoredVmx(saved(), config, {
      name: 'web restored',
      disks: new Map([['scsi0:0', 'disk0.vmdk']]),
      networks: new Map([['VM Network', 'Lab']]),
      keepIdentity: false,
    })
    expect(vmx.get('scsi0:0.fileName')).toBe('disk0.vmdk')
    expect(vmx.get('scsi0:1.fileName')).toBeUndefined()
    expect(vmx.get('scsi0:1.present')).toBeUndefined()
    expect(vmx.get('scsi0:0.ctkEnabled')).toBeUndefined()
    expect(vmx.get('sched.swap.derivedName')).toBeUndefined()
    expect(vmx.get('numa.autosize')).toBe('4')
    expect(vmx.get('uuid.bios')).toBeUndefined()
    expect(vmx.get('ethernet0.networkName')).toBe('Lab')
    expect(vmx.get('ethernet0.generatedAddress')).toBeUndefined()
    expect(vmx.get('ide0:0.fileName')).toBeUndefined()
    expect(dropped).toEqual(['ide0:0 (/vmfs/volumes/ds/x.iso)'])
  })

  test('without a saved file it is made from the manifest', () => {
    const { vmx, dropped } = restoredVmx(undefined, config, {
      name: 'web',
      disks: new Map([
        ['scsi0:0', 'a.vmdk'],
        ['scsi0:1', 'b.vmdk'],
      ]),
      networks: new Map([['VM Network', null]]),
      keepIdentity: true,
    })
    expect(vmx.get('scsi0.virtualDev')).toBe('pvscsi')
    expect(vmx.get('scsi0:1.fileName')).toBe('b.vmdk')
    expect(vmx.get('virtualHW.version')).toBe('19')
    expect(vmx.get('firmware')).toBe('efi')
    expect(vmx.get('guestinfo.x')).toBe('y')
    expect(vmx.get('uuid.bios')).toBe(config.vm.biosUuid)
    expect(vmx.get('ethernet0.networkName')).toBeUndefined()
    expect(vmx.get('ethernet0.startConnected')).toBe('FALSE')
    expect(vmx.get('annotation')).toBe(config.annotation)
    expect(dropped).toEqual(['ISO [ds] iso/x.iso'])
    expect(parse(vmx.format()).get('annotation')).toBe(config.annotation)
  })
})
