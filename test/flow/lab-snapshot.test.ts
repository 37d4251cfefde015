import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Lab, startLab } from '../../src/lab/index.ts'
import { LabClient } from './lab-client.ts'

const scenario = {
  taskMs: 0,
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }, { name: 'esx2' }],
      datastores: [
        { name: 'v6', type: 'VMFS6' },
        { name: 'nfs', type: 'NFS' },
      ],
      vms: [
        {
          name: 'a',
          datastore: 'v6',
          changeTracking: true,
          workload: 100,
          disks: [{ size: '16MiB' }, { size: '16MiB', controller: 'lsilogic', bus: 1 }],
        },
        { name: 'b', datastore: 'nfs', changeTracking: true, power: 'poweredOff', disks: [{ size: '16MiB', thin: false }] },
        {
          name: 'mixed',
          datastore: 'v6',
          changeTracking: true,
          disks: [{ size: '8MiB' }, { size: '8MiB', mode: 'independent_persistent' }, { size: '1GiB', rdm: 'physical' }],
        },
        { name: 'no tools', datastore: 'nfs', tools: 'notInstalled', disks: [{ size: '8MiB' }] },
        { name: 'late', datastore: 'nfs', disks: [{ size: '8MiB' }] },
      ],
    },
  ],
}

describe('snapshots of the lab', () => {
  let directory = ''
  let lab: Lab
  let client: LabClient
  const ids = new Map<string, string>()
  const id = (name: string): string => ids.get(name) ?? ''

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'vcb-lab-'))
    lab = await startLab({ directory, scenario })
    client = await LabClient.login(lab)
    for (const vm of (await lab.control.state()).vms) ids.set(vm.name, vm.moref)
  })
  afterAll(async () => {
    await lab[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })

  test('freezes every disk at one moment while the guest goes on writing', async () => {
    const snapshot = await client.takeSnapshot(id('a'), 'one', true)
    const frozen = await lab.control.sha256('a', { snapshot })
    expect(await lab.control.fsck('a', { snapshot })).toMatchObject({ ok: true, sameRecord: true })
    await lab.control.write('a', { records: 20 })
    expect(await lab.control.sha256('a', { snapshot })).toEqual(frozen)
    expect((await lab.control.sha256('a')).map((disk) => disk.sha256)).not.toEqual(frozen.map((disk) => disk.sha256))
    expect((await lab.control.digestsAtSnapshot('a')).at(-1)).toMatchObject({ name: 'one', quiesced: true, disks: frozen })
    expect(await readdir(join(lab.datastores['v6'] ?? '', 'a'))).toContain('a-000001-sesparse.vmdk')
    await client.removeSnapshot(snapshot)
    expect((await readdir(join(lab.datastores['v6'] ?? '', 'a'))).filter((name) => name.includes('-00000'))).toEqual([])
    expect(await lab.control.fsck('a')).toMatchObject({ ok: true })
    expect((await lab.control.digestsAtSnapshot('a')).at(-1)?.disks).toEqual(frozen)
  })

  test('commits the middle of a chain without changing what the guest or the other snapshots see', async () => {
    const first = await client.takeSnapshot(id('b'), 'first')
    await lab.control.write('b', { records: 5 })
    const second = await client.takeSnapshot(id('b'), 'second')
    await lab.control.write('b', { percent: 10 })
    const third = await client.takeSnapshot(id('b'), 'third')
    await lab.control.write('b', { records: 5 })
    const images = {
      first: await lab.control.sha256('b', { snapshot: first }),
      third: await lab.control.sha256('b', { snapshot: third }),
      now: await lab.control.sha256('b'),
    }
    await client.removeSnapshot(second)
    expect(await lab.control.sha256('b', { snapshot: first })).toEqual(images.first)
    expect(await lab.control.sha256('b', { snapshot: third })).toEqual(images.third)
    expect(await lab.control.sha256('b')).toEqual(images.now)
    await client.task('RevertToSnapshot_Task', client.snapshot(first))
    expect(await lab.control.sha256('b')).toEqual(images.first)
    await client.task('RemoveAllSnapshots_Task', client.vm(id('b')))
    expect(await lab.control.sha256('b')).toEqual(images.first)
    expect((await readdir(join(lab.datastores['nfs'] ?? '', 'b'))).filter((name) => name.includes('-00000'))).toEqual([])
  })

  test('names every changed area between two snapshots, in pages when a rule makes them small', async () => {
    const first = await client.takeSnapshot(id('b'), 'base')
    const before = (await client.frozenDisks(first))[0]
    await client.removeSnapshot(first)
    const written = [65_536, 3 * 65_536, 5 * 65_536, 9 * 65_536, 100 * 65_536]
    await lab.control.write('b', { areas: written.map((offset) => ({ offset, length: 4096 })) })
    const second = await client.takeSnapshot(id('b'), 'next')
    const key = before?.key ?? 0
    const changeId = before?.changeId ?? ''
    expect(changeId).toMatch(/^[0-9a-f ]{23}-[0-9a-f ]{23}\/\d+$/)
    const whole = await client.areas(id('b'), second, key, changeId)
    expect(whole).toMatchObject({ start: 0, length: 16 * 2 ** 20 })
    for (const offset of written)
      expect(whole.areas.some((area) => area.start <= offset && offset + 4096 <= area.start + area.length)).toBe(true)
    // One block more: the guest notes at the disk's end where its records are.
    expect(whole.areas.reduce((sum, area) => sum + area.length, 0)).toBeLessThanOrEqual((written.length + 1) * 65_536)

    await lab.control.fault({ object: 'b', changedAreas: 'small-pages' })
    const pages: { start: number; length: number }[] = []
    for (let at = 0; at < 16 * 2 ** 20; ) {
      const page = await client.areas(id('b'), second, key, changeId, at)
      expect(page.start).toBe(at)
      expect(page.length).toBeGreaterThan(0)
      expect(page.areas.length).toBeLessThanOrEqual(3)
      pages.push(...page.areas)
      at = page.start + page.length
    }
    expect(pages).toEqual(whole.areas)
    await lab.control.clearFaults()
    await expect(client.areas(id('b'), second, key, changeId, 16 * 2 ** 20)).rejects.toThrow('InvalidArgument')
    await expect(client.areas(id('b'), second, key, '00 00 00 00 00 00 00 00-00 00 00 00 00 00 00 00/1')).rejects.toThrow('InvalidArgument')
    await client.removeSnapshot(second)
  })

  test('switches change tracking on at the next stun of a running VM', async () => {
    await client.task('ReconfigVM_Task', client.vm(id('late')), '<spec><changeTrackingEnabled>true</changeTrackingEnabled></spec>')
    expect(await client.text('VirtualMachine', id('late'), 'config.changeTrackingEnabled')).toBe('true')
    expect((await lab.control.state()).vms.find((vm) => vm.name === 'late')?.changeTracking).toBe(false)
    const snapshot = await client.takeSnapshot(id('late'), 'stun')
    expect((await client.frozenDisks(snapshot))[0]?.changeId).toBeDefined()
    await client.removeSnapshot(snapshot)
  })

  test('leaves independent disks and physical mappings out, and says so by their absence', async () => {
    const snapshot = await client.takeSnapshot(id('mixed'), 'partial')
    expect(await client.frozenDisks(snapshot)).toHaveLength(1)
    await client.removeSnapshot(snapshot)
  })

  test('does not quiesce a guest without Tools, and admits it in the tree', async () => {
    const snapshot = await client.takeSnapshot(id('no tools'), 'silent', true)
    const tree = (await client.read('VirtualMachine', id('no tools'), 'snapshot')).get('snapshot')
    expect(JSON.stringify(tree)).toContain('"quiesced","children":[],"text":"false"')
    await client.removeSnapshot(snapshot)
  })

  test('a quiesce fault leaves no snapshot and no redo log', async () => {
    await lab.control.fault({ object: 'a', quiesce: 'timeout', times: 1 })
    await expect(client.takeSnapshot(id('a'), 'never', true)).rejects.toThrow('FilesystemQuiesceFault')
    const state = (await lab.control.state()).vms.find((vm) => vm.name === 'a')
    expect(state).toMatchObject({ snapshots: [], frozen: false, consolidationNeeded: false })
    expect((await readdir(join(lab.datastores['v6'] ?? '', 'a'))).filter((name) => name.includes('-00000'))).toEqual([])
    expect(await lab.control.fsck('a')).toMatchObject({ ok: true })
    await lab.control.clearFaults()
  })

  test('a removal that leaves its redo logs asks for consolidation, and a lock makes that fail', async () => {
    const snapshot = await client.takeSnapshot(id('b'), 'stuck')
    await lab.control.write('b', { records: 3 })
    const image = await lab.control.sha256('b')
    await lab.control.fault({ object: 'b', consolidationNeeded: true, times: 1 })
    await client.removeSnapshot(snapshot)
    expect(await client.text('VirtualMachine', id('b'), 'runtime.consolidationNeeded')).toBe('true')
    const lock = await lab.control.fault({ object: 'b', lockHeld: true })
    await expect(client.task('ConsolidateVMDisks_Task', client.vm(id('b')))).rejects.toThrow('FileLocked')
    await lab.control.clearFaults(lock)
    await client.task('ConsolidateVMDisks_Task', client.vm(id('b')))
    expect(await client.text('VirtualMachine', id('b'), 'runtime.consolidationNeeded')).toBe('false')
    expect(await lab.control.sha256('b')).toEqual(image)
    await lab.control.clearFaults()
  })

  test('a datastore without space fails the task, not the lab', async () => {
    const rule = await lab.control.fault({ datastoreFull: 'nfs' })
    await expect(client.takeSnapshot(id('b'), 'no room')).rejects.toThrow('NoDiskSpace')
    await lab.control.clearFaults(rule)
    await client.removeSnapshot(await client.takeSnapshot(id('b'), 'room again'))
  })
})
