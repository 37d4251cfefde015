import { describe, expect, it } from 'vitest'
import type { DeviceRef, DiskRef, VmConfig } from '../core/index.ts'
import { protectionOf } from './protection.ts'

const disk = (key: number, label: string, more: Partial<DiskRef> = {}): DiskRef => ({
  key,
  label,
  capacityBytes: 1024,
  backing: 'flat',
  diskMode: 'persistent',
  fileName: `[ds 1] vm/vm_${key}.vmdk`,
  chain: [`[ds 1] vm/vm_${key}.vmdk`],
  thin: true,
  ...more,
})

const config = (disks: readonly DiskRef[], devices: readonly DeviceRef[] = []): VmConfig =>
  ({ vm: { name: 'web' }, disks, devices }) as unknown as VmConfig

describe('protectionOf', () => {
  it.each([
    [{ backing: 'rdmPhysical' }, /physical mode/],
    [{ backing: 'raw' }, /raw disk/],
    [{ backing: 'unknown' }, /not known/],
    [{ diskMode: 'independent_persistent' }, /independent_persistent/],
    [{ diskMode: 'independent_nonpersistent' }, /independent_nonpersistent/],
    [{ diskMode: 'nonpersistent' }, /thrown away/],
    [{ sharing: 'sharingMultiWriter' }, /multi-writer/],
    [{ fileName: '' }, /no file/],
  ] as const)('leaves out %j and says why', (more, reason) => {
    const { disks, notProtected } = protectionOf(config([disk(1, 'scsi0:0'), disk(2, 'scsi0:1', more)]))
    expect(disks.map(({ key }) => key)).toEqual([1])
    expect(notProtected).toEqual([{ disk: 'scsi0:1', reason: expect.stringMatching(reason) }])
  })

  it('leaves out disks on a shared bus, but no others', () => {
    const devices = [
      { key: 1000, type: 'VirtualLsiLogicController', label: 'scsi0', sharedBus: 'noSharing' },
      { key: 1001, type: 'VirtualLsiLogicController', label: 'scsi1', sharedBus: 'virtualSharing' },
      { key: 1, type: 'VirtualDisk', label: 'scsi0:0', controllerKey: 1000 },
      { key: 2, type: 'VirtualDisk', label: 'scsi1:0', controllerKey: 1001 },
    ]
    const { disks, notProtected } = protectionOf(config([disk(1, 'scsi0:0'), disk(2, 'scsi1:0')], devices))
    expect(disks.map(({ label }) => label)).toEqual(['scsi0:0'])
    expect(notProtected[0]?.reason).toContain('virtualSharing')
  })

  it.each(['scsi0:1', 'SCSI0:1', '2', '[ds 1] vm/vm_2.vmdk', '[ds 1]*_2*', 'vm_2.vmdk', '*_2.vmdk'])('excludes by %j', (exclude) => {
    const { disks, notProtected } = protectionOf(config([disk(1, 'scsi0:0'), disk(2, 'scsi0:1')]), [exclude])
    expect(disks.map(({ key }) => key)).toEqual([1])
    expect(notProtected).toEqual([{ disk: 'scsi0:1', reason: `excluded by ${JSON.stringify(exclude)}`, excluded: true }])
  })

  it('gives the disks as frozen, and names every disk that the snapshot left out', () => {
    const live = [disk(1, 'scsi0:0'), disk(2, 'scsi0:1', { diskMode: 'independent_persistent' }), disk(3, 'scsi0:2'), disk(4, 'scsi0:3')]
    const frozen = [disk(1, 'scsi0:0', { changeId: '52/1' }), disk(4, 'scsi0:3'), disk(5, 'scsi0:4')]
    const { disks, notProtected } = protectionOf(config(live), ['scsi0:3'], config(frozen))
    expect(disks).toEqual([frozen[0], frozen[2]])
    expect(notProtected.map(({ disk: label, reason }) => [label, reason])).toEqual([
      ['scsi0:1', 'disk mode independent_persistent: snapshots leave it out'],
      ['scsi0:2', 'the snapshot does not hold it'],
      ['scsi0:3', 'excluded by "scsi0:3"'],
    ])
    expect(() => protectionOf(config(live), ['scsi0:1'], config(frozen))).not.toThrow()
  })

  it('refuses an exclude that names no disk', () => {
    expect(() => protectionOf(config([disk(1, 'scsi0:0')]), ['scsi0:7'])).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })
})
