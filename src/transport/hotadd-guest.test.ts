import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Clock, systemClock } from '../core/index.ts'
import { waitForDisk } from './hotadd-appear.ts'
import { ProxyGuest } from './hotadd-guest.ts'

let directory: string
let guest: ProxyGuest
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-guest-'))
  guest = guestOf(systemClock)
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const guestOf = (clock: Clock, appearMs = 0): ProxyGuest =>
  new ProxyGuest({ sysfs: join(directory, 'sys'), devices: join(directory, 'dev'), appearMs, clock })

async function put(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(join(directory, path, '..'), { recursive: true })
  await writeFile(join(directory, path), content)
}
const dmi = async (vendor: string, uuid: string): Promise<void> => {
  await put('sys/class/dmi/id/sys_vendor', `${vendor}\n`)
  await put('sys/class/dmi/id/product_uuid', `${uuid}\n`)
}
const disk = (address: string, name: string, sectors: string): Promise<void> =>
  put(`sys/bus/scsi/devices/${address}/block/${name}/size`, `${sectors}\n`)

describe('this machine', () => {
  test('that is no VM of VMware says so in one clause', async () => {
    expect(await guest.identity()).toEqual({ refusal: 'this machine is not a VM of vSphere (its vendor is nothing)' })
    await dmi('Dell Inc.', '8ac43342-7478-0792-a5f1-0123456789ab')
    expect(await guest.identity()).toEqual({ refusal: 'this machine is not a VM of vSphere (its vendor is Dell Inc.)' })
    expect(await guest.is('8ac43342-7478-0792-a5f1-0123456789ab')).toBe(false)
  })

  test('is known by its SMBIOS uuid, in both orders', async () => {
    await dmi('VMware, Inc.', '8AC43342-7478-0792-A5F1-0123456789AB')
    expect((await guest.identity()).uuids).toHaveLength(2)
    expect(await guest.is('4233C48A-7874-9207-A5F1-0123456789AB')).toBe(true)
    expect(await guest.is('4233c48b-7874-9207-a5f1-0123456789ab')).toBe(false)
  })

  test('without a uuid is nobody', async () => {
    await dmi('VMware, Inc.', 'Not Present')
    expect(await guest.identity()).toEqual({ refusal: 'this machine shows no SMBIOS uuid' })
  })
})

describe('its disks', () => {
  const NAA = '6000c2990a1b2c3d4e5f60718293a4b5'

  test('show their uuid in wwid, else in page 83h, else in the links of udev', async () => {
    await disk('2:0:0:0', 'sda', '100')
    await disk('2:0:1:0', 'sdb', '200')
    await put('sys/bus/scsi/devices/2:0:1:0/wwid', `naa.${NAA}\n`)
    await disk('2:0:2:0', 'sdc', '300')
    await put('sys/bus/scsi/devices/2:0:2:0/wwid', 't10.VMware  Virtual disk\n')
    await put(
      'sys/bus/scsi/devices/2:0:2:0/vpd_pg83',
      Buffer.concat([Buffer.from([0, 0x83, 0, 20, 1, 3, 0, 16]), Buffer.from(NAA.replace(/5$/, '6'), 'hex')]),
    )
    await disk('2:0:3:0', 'sdd', '400')
    await mkdir(join(directory, 'dev/disk/by-id'), { recursive: true })
    await symlink('../../sdd', join(directory, 'dev/disk/by-id', `wwn-0x${NAA.replace(/5$/, '7')}`))
    await symlink('../../sda1', join(directory, 'dev/disk/by-id', `wwn-0x${NAA}-part1`))
    expect((await guest.disks()).map(({ name, uuid, size }) => [name, uuid, size])).toEqual([
      ['sda', undefined, 51_200],
      ['sdb', NAA, 102_400],
      ['sdc', NAA.replace(/5$/, '6'), 153_600],
      ['sdd', NAA.replace(/5$/, '7'), 204_800],
    ])
  })

  test('are left out while they have no size, and what is no SCSI address is no disk', async () => {
    await disk('2:0:0:0', 'sda', '0')
    await disk('2:0:1:0', 'sdb', 'rubbish')
    await disk('target2:0:0', 'sdc', '8')
    expect(await guest.disks()).toEqual([])
  })

  test('are let go by their exact address', async () => {
    await disk('2:0:1:0', 'sdb', '8')
    await put('sys/bus/scsi/devices/2:0:1:0/delete', '')
    await disk('3:0:1:0', 'sdc', '8')
    await put('sys/bus/scsi/devices/3:0:1:0/delete', '')
    const sdb = { bus: 'scsi', address: '2:0:1:0', name: 'sdb', unit: 1, uuid: undefined, size: 4096 } as const
    const removing = guest.remove(sdb)
    const node = join(directory, 'sys/bus/scsi/devices/2:0:1:0')
    await expect.poll(() => readFile(join(node, 'delete'), 'utf8')).toBe('1')
    await rename(node, join(directory, 'gone'))
    expect(await removing).toBe(true)
    expect(await guest.remove(sdb)).toBe(true)
    expect(await readFile(join(directory, 'sys/bus/scsi/devices/3:0:1:0/delete'), 'utf8')).toBe('')
  })

  test('of NVMe show it in wwid or nguid; what namespaces of one controller share is no uuid', async () => {
    const namespaces: [string, string, Record<string, string>][] = [
      // As Linux guests of VMware show it, and as VMware's storage driver for Kubernetes computes it.
      ['nvme0n1', '6000c29a319192779dfd990a196977a6', { wwid: 'eui.9dfd990a196977a6000c296a31919277' }],
      ['nvme0n2', '6000c29f092d9204a9d1a9a7feaf1d66', { wwid: 'nvme.x', nguid: 'a9d1a9a7-feaf-1d66-000c-296f092d9204' }],
      ['nvme0n3', '6000c2990a1b2c3d4e5f60718293a4b5', { wwid: 'uuid.6000c299-0a1b-2c3d-4e5f-60718293a4b5' }],
    ]
    for (const [name, , attributes] of namespaces)
      for (const [key, value] of Object.entries({ nsid: name.slice(-1), size: '8', ...attributes }))
        await put(`sys/block/${name}/${key}`, `${value}\n`)
    const shared = [
      'nvme.15ad-564d57617265204e564d455f30303030-564d77617265205669727475616c204e564d65204469736b-00000001',
      'eui.000c296a31919277',
    ]
    for (const [index, wwid] of shared.entries()) {
      await put(`sys/block/nvme1n${index + 1}/wwid`, `${wwid}\n`)
      await put(`sys/block/nvme1n${index + 1}/size`, '8\n')
    }
    await put('sys/block/nvme1n3/nguid', '00000000-0000-0000-0000-000000000000\n')
    await put('sys/block/nvme1n3/size', '8\n')
    for (const other of ['nvme0c0n1', 'loop0', 'nvme0n9']) await put(`sys/block/${other}/size`, other === 'nvme0n9' ? '0\n' : '8\n')
    const disks = await guest.disks()
    expect(disks.map(({ bus, name, uuid }) => [bus, name, uuid])).toEqual([
      ...namespaces.map(([name, uuid]) => ['nvme', name, uuid]),
      ...[1, 2, 3].map((index) => ['nvme', `nvme1n${index}`, undefined]),
    ])
    expect(disks.slice(0, 3).map(({ unit, size }) => [unit, size])).toEqual([0, 1, 2].map((unit) => [unit, 4096]))
  })

  test('a namespace is not let go, but has to vanish once it is detached; its controller is asked', async () => {
    await put('sys/class/nvme/nvme0/rescan_controller', '')
    await put('sys/block/nvme0n2/size', '8\n')
    const [disk] = await guest.disks()
    if (disk === undefined) throw new Error('no disk')
    expect(await guest.remove(disk)).toBe(true)
    const vanishing = guest.vanished(disk)
    await expect.poll(() => readFile(join(directory, 'sys/class/nvme/nvme0/rescan_controller'), 'utf8')).toBe('1')
    await rename(join(directory, 'sys/block/nvme0n2'), join(directory, 'gone'))
    expect(await vanishing).toBe(true)
  })

  test('every host and controller is asked to scan', async () => {
    await put('sys/class/scsi_host/host2/scan', '')
    await put('sys/class/scsi_host/host5/scan', '')
    await put('sys/class/nvme/nvme0/rescan_controller', '')
    await guest.scan()
    expect(await readFile(join(directory, 'sys/class/nvme/nvme0/rescan_controller'), 'utf8')).toBe('1')
    for (const host of ['host2', 'host5'])
      expect(await readFile(join(directory, 'sys/class/scsi_host', host, 'scan'), 'utf8')).toBe('- - -')
  })
})

describe('an attached disk that does not come', () => {
  test('is waited for as long as configured, asking the hosts to scan', async () => {
    let now = 0
    const clock: Clock = { ...systemClock, monotonicMs: () => now, sleep: async (ms) => void (now += ms) }
    await put('sys/class/scsi_host/host2/scan', '')
    const wanted = { fileName: '[ds] web/web.vmdk', uuid: 'a'.repeat(32), capacityBytes: 4096, unit: 3, bus: 'scsi' } as const
    await expect(waitForDisk(guestOf(clock, 1200), wanted, [])).rejects.toThrow(
      'The attached [ds] web/web.vmdk did not appear in this machine within 1 s.',
    )
    expect(now).toBe(1200)
    expect(await readFile(join(directory, 'sys/class/scsi_host/host2/scan'), 'utf8')).toBe('- - -')
  })
})

test('changes of the proxy VM by this process come one after the other, also after one that failed', async () => {
  const order: string[] = []
  const gate = Promise.withResolvers<void>()
  const first = guest.turn(async () => {
    order.push('first')
    await gate.promise
    order.push('first ends')
    throw new Error('it failed')
  })
  const second = guest.turn(async () => void order.push('second'))
  gate.resolve()
  await expect(first).rejects.toThrow('it failed')
  await second
  expect(order).toEqual(['first', 'first ends', 'second'])
})
