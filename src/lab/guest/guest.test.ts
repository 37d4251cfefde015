import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MIB, systemClock } from '../../core/index.ts'
import { createDisk, Datastore, LabDisk, openRawView, openView } from '../storage/index.ts'
import { fsck, Guest, type GuestDisk, type GuestOptions } from './index.ts'

let root: string
let datastore: Datastore
const disks: LabDisk[] = []
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lab-guest-'))
  datastore = new Datastore({ name: 'ds', type: 'VMFS6', directory: root })
  mkdirSync(join(root, 'vm'))
})
afterEach(() => {
  for (const disk of disks.splice(0)) disk[Symbol.dispose]()
  rmSync(root, { recursive: true, force: true })
})

function makeDisk(name: string, content?: 'ext4' | 'ntfs', capacityBytes = 96 * MIB): LabDisk {
  const fixture = content === undefined ? undefined : { fixture: content }
  createDisk(datastore, { path: `vm/${name}.vmdk`, capacityBytes, thin: true, adapterType: 'lsilogic', content: fixture })
  const disk = LabDisk.open(datastore, `vm/${name}.vmdk`)
  disks.push(disk)
  return disk
}
const options: GuestOptions = { clock: systemClock, seed: 42, recordsPerSecond: 0 }

describe('records', () => {
  it('can be checked on every disk, across a wrap of the ring and beside file systems', async () => {
    const all = [makeDisk('a', 'ext4'), makeDisk('b', 'ntfs'), makeDisk('c'), makeDisk('d', undefined, 9 * MIB)]
    const before = readFileSync(datastore.path('vm/a-flat.vmdk')).subarray(0, 57 * MIB)
    await using guest = Guest.open(all, options)
    expect(await guest.writeNow({ records: 150 })).toMatchObject({ lastRecord: 150 })
    const report = await fsck(all)
    expect(report).toMatchObject({ ok: true, sameRecord: true })
    expect(report.disks.map(({ lastRecord }) => lastRecord)).toEqual([150, 150, 150, 150])
    expect(report.disks.every(({ records }) => records >= 8)).toBe(true)
    expect(
      readFileSync(datastore.path('vm/a-flat.vmdk'))
        .subarray(0, 57 * MIB)
        .equals(before),
    ).toBe(true)
  })

  it('go on where the disks stand after a restart', async () => {
    const all = [makeDisk('a'), makeDisk('b')]
    await using first = Guest.open(all, options)
    await first.writeNow({ records: 5 })
    await using second = Guest.open(all, { ...options, seed: 99 })
    expect(second.lastRecord).toBe(5)
    await second.writeNow({ records: 3 })
    expect(await fsck(all)).toMatchObject({ ok: true, disks: [{ lastRecord: 8 }, { lastRecord: 8 }] })
  })

  it('reach a disk that was added later without a gap', async () => {
    const all = [makeDisk('a')]
    await using guest = Guest.open(all, options)
    await guest.writeNow({ records: 120 })
    all.push(makeDisk('b'))
    guest.setDisks(all)
    await guest.writeNow({ records: 2 })
    expect(await fsck(all)).toMatchObject({ ok: true, sameRecord: true, disks: [{ lastRecord: 122 }, { lastRecord: 122 }] })
  })

  it('show damage: a lost payload block, a stale slot, a disk of another moment', async () => {
    const all = [makeDisk('a', undefined, 9 * MIB), makeDisk('b', undefined, 9 * MIB)]
    await using guest = Guest.open(all, options)
    await guest.writeNow({ records: 20 })
    for (const disk of all) disk.addRedoLog()
    const old = [openView(datastore, 'vm/a.vmdk'), openView(datastore, 'vm/b.vmdk')] as const
    await guest.writeNow({ records: 7 })
    expect(await fsck(old)).toMatchObject({ ok: true, disks: [{ lastRecord: 20 }, { lastRecord: 20 }] })
    const [a, b] = all
    if (a === undefined || b === undefined) throw new Error('no disks')
    const mixed = await fsck([a, old[1]])
    expect(mixed.ok).toBe(false)
    expect(mixed.disks[1]?.problems[0]).toContain('not of one moment')
    // Every area the records touched in the redo log, wiped one at a time, is noticed.
    const flat = new Uint8Array(a.size)
    a.read(0, flat)
    let noticed = 0
    let tried = 0
    using base = openView(datastore, 'vm/a.vmdk')
    const block = new Uint8Array(4096)
    for (let at = 0; at < a.size; at += 4096) {
      base.read(at, block)
      if (Buffer.compare(block, flat.subarray(at, at + 4096)) === 0) continue
      tried++
      const damaged = flat.slice()
      damaged.set(block, at)
      if (!(await fsck([imageOf(damaged)])).ok) noticed++
    }
    expect(tried).toBeGreaterThan(20)
    expect(noticed).toBe(tried)
    for (const view of old) view[Symbol.dispose]()
  })

  it('can be checked in a plain raw image', async () => {
    const disk = makeDisk('a')
    await using guest = Guest.open([disk], options)
    await guest.writeNow({ records: 30 })
    const path = join(root, 'restored.raw')
    writeFileSync(path, readFileSync(datastore.path('vm/a-flat.vmdk')))
    using view = openRawView(path)
    expect(await fsck([view])).toMatchObject({ ok: true, disks: [{ lastRecord: 30, hasRecords: true }] })
  })
})

function imageOf(bytes: Uint8Array): GuestDisk {
  return {
    size: bytes.length,
    read: (offset, into) => into.set(bytes.subarray(offset, offset + into.length)),
    write: (offset, data) => bytes.set(data, offset),
    unmap: ({ offset, length }) => bytes.fill(0, offset, offset + length),
  }
}

describe('snapshots of a guest that writes', () => {
  it('show the same record everywhere when quiesced, and one moment when not', async () => {
    const all = [makeDisk('a'), makeDisk('b'), makeDisk('c')]
    await using guest = Guest.open(all, { ...options, recordsPerSecond: 40 })
    guest.start()
    let torn = 0
    for (let round = 0; round < 25; round++) {
      await systemClock.sleep(17 + ((round * 7) % 29))
      const quiesced = round % 5 === 0
      const frozen = quiesced ? await guest.quiesce(5000) : undefined
      {
        using _stun = guest.stun()
        const before = all.map((disk) => disk.addRedoLog())
        if (round === 0) expect(before).toHaveLength(3)
      }
      if (frozen !== undefined) expect(frozen.thaw()).toEqual({ held: true })
      const report = await fsck(all.map((disk) => disk.view(disk.chain[1] ?? '')))
      expect(report.ok, JSON.stringify(report)).toBe(true)
      if (quiesced) expect(report.sameRecord).toBe(true)
      else if (!report.sameRecord) torn++
      for (const disk of all) await disk.commit(disk.top)
    }
    expect(guest.lastRecord).toBeGreaterThan(5)
    expect(torn).toBeGreaterThan(0)
    await guest.stop()
    expect((await fsck(all)).ok).toBe(true)
  })

  it('holds still while frozen, until the limit', async () => {
    const all = [makeDisk('a'), makeDisk('b')]
    await using guest = Guest.open(all, { ...options, recordsPerSecond: 500 })
    guest.start()
    await systemClock.sleep(60)
    const frozen = await guest.quiesce(120)
    const at = guest.lastRecord
    expect(at).toBeGreaterThan(0)
    await systemClock.sleep(50)
    expect(guest.lastRecord).toBe(at)
    await expect(guest.writeNow({ records: 1 })).rejects.toMatchObject({ code: 'CONFLICT' })
    await systemClock.sleep(250)
    expect(guest.lastRecord).toBeGreaterThan(at)
    expect(frozen.thaw()).toEqual({ held: false })
  })

  it('fails to quiesce as Tools do', async () => {
    await using guest = Guest.open([makeDisk('a')], options)
    for (const [tools, fault] of [
      ['notRunning', 'ToolsUnavailable'],
      ['scriptFails', 'ApplicationQuiesceFault'],
      ['vssFails', 'ApplicationQuiesceFault'],
      ['hangs', 'FilesystemQuiesceFault'],
    ] as const) {
      guest.tools = tools
      await expect(guest.quiesce(20)).rejects.toMatchObject({ fault })
      expect(guest.frozen).toBe(false)
    }
    guest.tools = 'cannotHold'
    expect((await guest.quiesce(1000)).thaw()).toEqual({ held: false })
  })
})

describe('writes on demand', () => {
  it('scatter the asked share over a disk and spare the records', async () => {
    const disk = makeDisk('a', undefined, 512 * MIB)
    await using guest = Guest.open([disk], options)
    await guest.writeNow({ records: 10 })
    disk.tracking.enable()
    const written = await guest.writeNow({ percent: 1, blockBytes: 65536, seed: 5 })
    const bytes = written.perDisk[0]?.bytes ?? 0
    expect(bytes / (512 * MIB)).toBeGreaterThan(0.009)
    expect(bytes / (512 * MIB)).toBeLessThanOrEqual(0.0101)
    expect((await fsck([disk])).ok).toBe(true)
  })

  it('stop the workload with an error on a full datastore, and go on after resume', async () => {
    const disk = makeDisk('a')
    const errors: unknown[] = []
    await using guest = Guest.open([disk], { ...options, recordsPerSecond: 300, onError: (error) => errors.push(error) })
    guest.start()
    await systemClock.sleep(60)
    datastore.full = true
    await systemClock.sleep(80)
    expect(errors).toHaveLength(1)
    expect(errors[0]).toMatchObject({ failure: 'NoDiskSpace' })
    datastore.full = false
    const at = guest.lastRecord
    guest.resume()
    await systemClock.sleep(80)
    expect(guest.lastRecord).toBeGreaterThan(at)
    await guest.stop()
    expect((await fsck([disk])).ok).toBe(true)
  })
})
