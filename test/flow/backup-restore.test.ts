import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { SnapshotDigests } from '../../src/lab/index.ts'
import { digestOfFile, type Json, type LabSession, openLabSession } from './lab-session.ts'

const VMS = ['web01', 'db01', 'win01']
let session: LabSession

beforeAll(async () => {
  session = await openLabSession()
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

/** Digests the lab recorded when the point's snapshot was made, by disk label. */
async function recorded(vm: string, point: Json): Promise<Map<string, string>> {
  const all: readonly SnapshotDigests[] = await session.lab.control.digestsAtSnapshot(vm)
  const found = all.find((each) => Date.parse(each.createdAt) === Date.parse(point.time))
  expect(found, `digests of ${vm} at ${point.time}`).toBeDefined()
  return new Map((found?.disks ?? []).map((disk) => [disk.label, disk.sha256]))
}

/** `exit` is 12 for a point that lacks disks nobody excluded. */
async function restoreAndCompare(vm: string, point: Json, name: string, exit = 0): Promise<void> {
  const target = join(session.directory, 'out', name)
  const restored = await session.json(['restore', point.point, '--to-dir', target], exit)
  const digests = await recorded(vm, point)
  for (const disk of restored.disks) {
    const flat = join(target, disk.file.replace(/\.vmdk$/, '-flat.vmdk'))
    expect(await digestOfFile(flat), `${vm} ${disk.label} of ${point.point}`).toBe(digests.get(disk.label))
  }
}

describe('a week of backups while guests write', () => {
  const points: { vm: string; point: Json }[] = []

  test('a weekly full of three VMs reads each disk by san and ends quiesced', async () => {
    const run = await session.json(['backup', VMS.join(','), '--mode', 'full'])
    expect(run.vms.map((vm: Json) => vm.vm.name).sort()).toEqual([...VMS].sort())
    for (const vm of run.vms) {
      points.push({ vm: vm.vm.name, point: vm })
      expect(vm.mode).toBe('full')
      expect(vm.consistency).not.toBe('crash')
      expect(vm.snapshotLifetimeMs).toBeGreaterThan(0)
      for (const disk of vm.disks) {
        expect(disk.transport).toBe('san')
        expect(disk.readBytes).toBeLessThanOrEqual(disk.capacityBytes)
        expect(disk.changeId).toBeTruthy()
      }
    }
    await session.expectClean()
  })

  test('nightly incrementals read what changed and little more', async () => {
    for (let night = 1; night <= 3; night++) {
      for (const vm of VMS) await session.lab.control.write(vm, { records: 5 })
      const run = await session.json(['backup', VMS.join(',')])
      for (const vm of run.vms) {
        points.push({ vm: vm.vm.name, point: vm })
        expect(vm.mode, `${vm.vm.name}: ${vm.disks.map((disk: Json) => disk.modeReason).join('; ')}`).toBe('incremental')
        for (const disk of vm.disks) expect(disk.readBytes).toBeLessThanOrEqual(disk.changedBytes * 1.5)
        const capacity = vm.disks.reduce((sum: number, disk: Json) => sum + disk.capacityBytes, 0)
        const read = vm.disks.reduce((sum: number, disk: Json) => sum + disk.readBytes, 0)
        expect(read / capacity).toBeLessThan(0.5)
      }
    }
    await session.expectClean()
  })

  test('every point restores to a directory equal to what the lab recorded at its snapshot', async () => {
    for (const [index, { vm, point }] of points.entries()) await restoreAndCompare(vm, point, `p${index}`)
    await session.expectClean()
  })

  test('a quiesced point shows the same record on every disk', async () => {
    for (const { vm, point } of points) {
      if (point.consistency === 'crash') continue
      const all = await session.lab.control.digestsAtSnapshot(vm)
      expect(all.find((each) => Date.parse(each.createdAt) === Date.parse(point.time))?.quiesced).toBe(true)
    }
  })

  test('a point restores to a new VM on another host and datastore, thin disks stay thin', async () => {
    const last = points.findLast(({ vm }) => vm === 'db01')
    if (last === undefined) throw new Error('no point of db01')
    const restored = await session.json(
      ['restore', last.point.point, '--to-vcenter', '--name', 'db01 restored', '--to-datastore', 'restore1', '--host', 'esx3.lab'],
      0,
    )
    expect(restored.datastore).toBe('restore1')
    expect(restored.host).toBe('esx3.lab')
    const digests = await recorded('db01', last.point)
    for (const disk of await session.lab.control.sha256('db01 restored')) expect(disk.sha256, disk.label).toBe(digests.get(disk.label))
    const fsck = await session.lab.control.fsck('db01 restored')
    expect(fsck).toMatchObject({ ok: true, sameRecord: true })
    await session.expectClean()
  })

  test('the same through datastore files and RegisterVM', async () => {
    const last = points.findLast(({ vm }) => vm === 'web01')
    if (last === undefined) throw new Error('no point of web01')
    const restored = await session.json([
      'restore',
      last.point.point,
      '--to-vcenter',
      '--name',
      'web01 copy',
      '--to-datastore',
      'nfs1',
      '--host',
      'esx2.lab',
      '--via',
      'folder',
    ])
    expect(restored.warnings.join(' ')).toContain('thick')
    const digests = await recorded('web01', last.point)
    for (const disk of await session.lab.control.sha256('web01 copy')) expect(disk.sha256, disk.label).toBe(digests.get(disk.label))
    await session.expectClean()
  })

  test('points are listed, shown and checked', async () => {
    const listed = await session.json(['points'])
    expect(listed.points).toHaveLength(points.length)
    const shown = await session.json(['show', 'web01@latest'])
    expect(shown.vm.name).toBe('web01')
    expect(shown.disks.map((disk: Json) => disk.label)).toEqual(['scsi0:0', 'scsi0:1'])
    const checked = await session.json(['check'])
    expect(checked.problems).toEqual([])
  })

  test('the log holds no secret', async () => {
    const password = (await readFile(session.lab.passwordFile, 'utf8')).trim()
    for (const name of await readdir(session.directory)) {
      if (!name.endsWith('.log')) continue
      const text = await readFile(join(session.directory, name), 'utf8')
      expect(text).not.toContain(password)
      expect(text).not.toContain(session.repositoryPassword)
    }
  })
})

describe('VMs that are not plain', () => {
  test("a user's own snapshots are left alone and read through", async () => {
    const before = (await session.lab.control.state()).vms.find((vm) => vm.name === 'history01')?.snapshots
    const run = await session.json(['backup', 'history01', '--mode', 'full'])
    await restoreAndCompare('history01', run.vms[0], 'history')
    const after = (await session.lab.control.state()).vms.find((vm) => vm.name === 'history01')?.snapshots
    expect(after).toEqual(before)
    await session.expectClean()
  })

  test('disks that cannot be protected are named and the run is not green', async () => {
    const run = await session.json(['backup', 'mixed01'], 12)
    const [vm] = run.vms
    expect(vm.ok).toBe(true)
    expect(vm.notProtected.map((disk: Json) => disk.disk)).toEqual(['scsi0:1', 'scsi1:0', 'scsi1:1'])
    await restoreAndCompare('mixed01', vm, 'mixed', 12)
    await session.expectClean()
  })

  test('the same disks, excluded by the user, make a green run', async () => {
    await session.json(['backup', 'mixed01', '--exclude-disk', 'scsi0:1', '--exclude-disk', 'scsi1:0', '--exclude-disk', 'scsi1:1'], 0)
    await session.expectClean()
  })

  test('a template is refused with what to do', async () => {
    const result = await session.json(['backup', 'template-linux'], 2)
    expect(result.vms[0].error.message).toContain('template')
  })

  test.each(['Büro Größe', 'a/b 100%', 'it\'s "quoted"'])('a VM named %s is backed up and restored inside its directory', async (name) => {
    const run = await session.json(['backup', `name:${name.replace(/([\\, !"])/g, '\\$1')}`])
    await restoreAndCompare(name, run.vms[0], `odd-${Buffer.from(name).toString('hex')}`)
    await session.expectClean()
  })

  test('over https, with no datastore mapped', async () => {
    const result = await session.vcbWith(
      { VCB_DATASTORES: undefined },
      'backup',
      'web01',
      '--mode',
      'full',
      '--transport',
      'san:https',
      '--json',
    )
    expect(result.exit, result.out + result.err).toBe(0)
    const [vm] = result.json().vms
    for (const disk of vm.disks) {
      expect(disk.transport).toBe('https')
      expect(disk.refused[0]).toMatchObject({ transport: 'san' })
    }
    await restoreAndCompare('web01', vm, 'https')
    await session.expectClean()
  })

  test('on a standalone ESXi', async () => {
    const { esxi } = session.lab.endpoints
    const result = await session.vcbWith(
      { VCB_VCENTER: esxi.url, VCB_THUMBPRINT: esxi.sha1 },
      'backup',
      'edge01',
      '--mode',
      'full',
      '--json',
    )
    expect(result.exit, result.out + result.err).toBe(0)
    await restoreAndCompare('edge01', result.json().vms[0], 'esxi')
    await session.expectClean()
  })
})
