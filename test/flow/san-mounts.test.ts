import { spawnSync } from 'node:child_process'
import { cp, mkdir, readdir, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AgentError, systemClock } from '../../src/core/index.ts'
import { sanTransport } from '../../src/transport/index.ts'
import type { Vsphere } from '../../src/vsphere/index.ts'
import { freezeDisks } from '../transports/frozen-disks.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'
import { digestOfSource } from './nfc-world.ts'

const scenario = {
  taskMs: 0,
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [
        { name: 'nfs', type: 'NFS' },
        { name: 'gold', type: 'VMFS6' },
        { name: 'old', type: 'VMFS5' },
      ],
      vms: [
        {
          name: 'web',
          datastore: 'nfs',
          changeTracking: true,
          disks: [
            { size: '8MiB', content: 'random' },
            { size: '4MiB', datastore: 'gold' },
          ],
        },
        { name: 'db', datastore: 'gold', changeTracking: true, disks: [{ size: '8MiB', content: 'random' }], snapshots: [{ name: 'own' }] },
      ],
    },
  ],
}

const canMount = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0

let session: LabSession
let vsphere: Vsphere
beforeAll(async () => {
  session = await openLabSession({ scenario })
  vsphere = await session.connect()
})
afterAll(() => session[Symbol.asyncDispose]())

const mountInfo = async (...lines: readonly string[]): Promise<string> => {
  const path = join(session.directory, `mountinfo-${lines.length}-${Math.abs(lines.join('').length)}`)
  await writeFile(path, ['22 1 254:0 / / rw - ext4 /dev/vda1 rw', ...lines, ''].join('\n'))
  return path
}

const copyOf = async (store: string, to: string): Promise<string> => {
  const target = join(session.directory, to)
  await cp(session.lab.datastores[store] ?? '', target, { recursive: true })
  return target
}

describe('an NFS export mounted on the proxy', () => {
  test('is found by its server and path, wherever it is mounted, and read as it was frozen', async (context) => {
    const remote = session.lab.datastores['nfs'] ?? ''
    const point = join(session.directory, 'anywhere')
    await mkdir(point)
    if (!canMount) context.skip('mounting needs root and CAP_SYS_ADMIN')
    expect(spawnSync('mount', ['--bind', '-o', 'ro', remote, point]).status).toBe(0)
    try {
      await using vm = await freezeDisks(vsphere, 'web')
      const gold = session.lab.datastores['gold'] ?? ''
      const san = (server: string, path = remote) =>
        mountInfo(`50 22 0:50 / ${point} ro - nfs4 ${server}:${path} ro,addr=127.0.0.1`).then((mountInfoPath) =>
          sanTransport({ datastores: { gold }, clock: systemClock, vsphere, mountInfoPath, lookup: async () => [] }),
        )
      const wanted = await session.frozenDigests('web')
      for (const disk of vm.disks) {
        const transport = await san('filer.example.com')
        expect(await transport.probe(disk)).toMatchObject({ ok: true })
        await using source = await transport.open(disk)
        expect([disk.disk.label, await digestOfSource(source)]).toEqual([disk.disk.label, wanted.get(disk.disk.label)])
      }
      const [first] = vm.disks
      if (first === undefined) throw new Error('no disk')
      expect(await (await san('127.0.0.1', `${remote}-other`)).probe(first)).toMatchObject({
        ok: false,
        reason: expect.stringContaining('neither mapped'),
      })
      expect(await (await san('127.0.0.1', `/export${remote}`)).probe(first)).toMatchObject({ ok: true })
      expect(await (await san('127.0.0.1')).foresee?.(first)).toMatchObject({
        ok: true,
        note: expect.stringContaining('proven once the snapshot'),
      })
    } finally {
      spawnSync('umount', [point])
    }
    await session.expectClean()
  })
})

describe('a directory that is not the datastore as it is now', () => {
  test('an older copy, another lab’s datastore of the same name and files, swapped directories: never a wrong byte', async () => {
    const stale = await copyOf('nfs', 'stale')
    for (const disk of await session.lab.control.sha256('web'))
      await session.lab.control.write('web', { percent: 10, unit: 65_536, disk: disk.key })
    await using other = await openLabSession({ scenario })
    const good = session.lab.datastores
    const maps: readonly (readonly [string, Record<string, string>, RegExp])[] = [
      ['a copy', { nfs: stale, gold: good['gold'] ?? '' }, /as it is now/],
      ['the other datacenter', { nfs: other.lab.datastores['nfs'] ?? '', gold: other.lab.datastores['gold'] ?? '' }, /does not/],
      ['swapped', { nfs: good['gold'] ?? '', gold: good['nfs'] ?? '' }, /does not exist|not the disk|does not name/],
    ]
    for (const [what, map, reason] of maps) {
      const environment = {
        VCB_DATASTORES: Object.entries(map)
          .map(([name, path]) => `${name}=${path}`)
          .join(','),
      }
      const result = await session.vcbWith(environment, 'backup', 'web', '--mode', 'full', '--transport', 'san:nbdssl', '--init', '--json')
      expect([what, result.exit, result.err]).toEqual([what, 0, ''])
      const vm: Json = result.json().vms[0]
      expect([what, vm.disks[0].transport, vm.disks[0].refused]).toEqual([
        what,
        'nbdssl',
        [{ transport: 'san', reason: expect.stringMatching(reason) }],
      ])
      await session.expectRight('web', vm.point)
    }
    await session.expectClean()
  }, 120_000)

  test('what the snapshot left there is proof enough without another look at the files, and its absence is proof of a copy', async () => {
    const before = await copyOf('gold', 'gold-unseen')
    await using vm = await freezeDisks(vsphere, 'db')
    const [disk] = vm.disks
    if (disk === undefined) throw new Error('no disk')
    const san = (gold: string) => sanTransport({ datastores: { gold }, clock: { ...systemClock, sleep: async () => undefined } })
    expect(await san(session.lab.datastores['gold'] ?? '').probe(disk)).toMatchObject({ ok: true })
    const stale = await san(before).probe(disk)
    expect(stale.ok ? '' : stale.reason).toMatch(/does not name the snapshot|does not exist|not the disk/)
  })

  test('a disk on another datastore than its VM is proven by its new redo log', async () => {
    const before = await copyOf('gold', 'gold-before')
    await using vm = await freezeDisks(vsphere, 'web')
    const disk = vm.disks.find((each) => each.disk.fileName.startsWith('[gold]'))
    if (disk === undefined) throw new Error('no disk on gold')
    const { nfs = '', gold = '' } = session.lab.datastores
    const san = (map: Record<string, string>) => sanTransport({ datastores: map, clock: systemClock, vsphere })
    expect(await san({ nfs, gold }).probe(disk)).toMatchObject({ ok: true })
    expect(await san({ nfs, gold: before }).probe(disk)).toEqual({ ok: false, reason: expect.stringMatching(/redo log .* is not there/) })
  })

  test('a mount that shows a redo log as it was before it grew is refused, also with everything else in place', async () => {
    await using vm = await freezeDisks(vsphere, 'db')
    const [disk] = vm.disks
    if (disk === undefined) throw new Error('no disk')
    expect(disk.disk.chain.length).toBe(2)
    const old = await copyOf('gold', 'gold-old')
    const san = sanTransport({ datastores: { gold: old }, clock: systemClock, vsphere })
    expect(await san.probe(disk)).toMatchObject({ ok: true })
    const name = (await readdir(join(old, 'db'))).find((each) => /000001-(sesparse|delta)\.vmdk$/.test(each)) ?? ''
    const path = join(old, 'db', name)
    await truncate(path, (await stat(path)).size - 4096)
    const verdict = await san.probe(disk)
    expect(verdict).toMatchObject({ ok: false })
    expect(verdict.ok ? '' : verdict.reason).toMatch(/old state|bytes|ends|INTEGRITY/)
  })

  test('a frozen file that changes its size in mid-read ends the read', async () => {
    await using vm = await freezeDisks(vsphere, 'db')
    const [disk] = vm.disks
    if (disk === undefined) throw new Error('no disk')
    const copy = await copyOf('gold', 'gold-growing')
    const clock = { ...systemClock, monotonicMs: () => (ms += 600) }
    let ms = 0
    await using source = await sanTransport({ datastores: { gold: copy }, clock, vsphere }).open(disk)
    const into = new Uint8Array(4096)
    await source.read(0, into)
    await source.read(0, into)
    await truncate(join(copy, 'db', 'db-flat.vmdk'), disk.disk.capacityBytes + 4096)
    await expect(Promise.all([source.read(4096, into), source.read(8192, into), source.read(0, into)])).rejects.toThrow(AgentError)
    await expect(source.read(0, into).then(() => source.read(0, into))).rejects.toMatchObject({
      code: 'INTEGRITY',
      message: expect.stringContaining('it is frozen'),
    })
  })

  test('an encrypted VM is never read from its files', async () => {
    await using vm = await freezeDisks(vsphere, 'db')
    const [disk] = vm.disks
    if (disk === undefined) throw new Error('no disk')
    const san = sanTransport({ datastores: session.lab.datastores, clock: systemClock, vsphere })
    expect(await san.probe({ ...disk, config: { ...disk.config, encrypted: true } })).toEqual({
      ok: false,
      reason: 'db is encrypted, and its files hold ciphertext.',
    })
  })
})
