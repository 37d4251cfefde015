import { afterAll, beforeAll, expect, it } from 'vitest'
import { type ClaimId, createIds, type VmRef } from '../../src/core/index.ts'
import { describeVm, selectVms } from '../../src/inventory/index.ts'
import { createSnapshots } from '../../src/snapshot/index.ts'
import { createSnapshot, snapshotTree, vmMoRef, type Vsphere } from '../../src/vsphere/index.ts'
import { describePeer } from '../peer.ts'
import { startVcsim, startVcsimLite, type Vcsim } from './vcsim-server.ts'

const ids = createIds()

describePeer('vcsim', "snapshots in VMware's simulator", (program) => {
  let sim: Vcsim
  let vsphere: Vsphere
  let vm: VmRef
  beforeAll(async () => {
    sim = await startVcsim(program, ['-vm', '2'])
    vsphere = await sim.connect()
    const [first] = await selectVms(vsphere, ['DC0_H0_VM0'])
    if (first === undefined) throw new Error('no VM')
    vm = first
  })
  afterAll(async () => {
    await vsphere[Symbol.asyncDispose]()
    await sim[Symbol.asyncDispose]()
  })

  it('creates, finds by claim, reads and removes; the second removal finds nothing', async () => {
    const snapshots = createSnapshots(vsphere)
    const claim = ids.claim()
    const made = await snapshots.create(vm, { claim })
    expect(made).toMatchObject({ vm, name: `vcb-proxy ${claim}`, quiesced: false })
    expect(Date.parse(made.createdAt)).toBeGreaterThan(0)
    expect(await snapshots.find(vm, claim)).toEqual(made)
    expect(await snapshots.find(vm, 'another' as ClaimId)).toBeUndefined()
    const config = await describeVm(vsphere, vm)
    expect(config.snapshotCount).toBe(1)
    expect((await snapshots.configOf(made, config)).disks).toHaveLength(1)
    expect(await snapshots.remove(made)).toEqual({ removed: true, consolidated: false })
    expect(await snapshots.remove(made)).toEqual({ removed: false, consolidated: false })
    expect(await snapshotTree(vsphere, vmMoRef(vm))).toEqual([])
  })

  it("leaves a user's snapshot alone", async () => {
    const snapshots = createSnapshots(vsphere)
    const theirs = await createSnapshot(vsphere, vmMoRef(vm), { name: '100% mine / vcb-proxy', description: '' })
    const made = await snapshots.create(vm, { claim: ids.claim() })
    await snapshots.remove(made)
    const tree = await snapshotTree(vsphere, vmMoRef(vm))
    expect(tree.map(({ snapshot, name, children }) => [snapshot.value, name, children.length])).toEqual([
      [theirs.value, '100% mine / vcb-proxy', 0],
    ])
  })

  it('finds nothing on a VM that is gone, and removing there is done', async () => {
    const gone: VmRef = { ...vm, moref: 'vm-none', instanceUuid: '00000000-0000-0000-0000-000000000000' }
    const snapshots = createSnapshots(vsphere)
    expect(await snapshots.find(gone, ids.claim())).toBeUndefined()
    expect(await snapshots.remove({ vm: gone, moref: 'snapshot-1', name: 'vcb-proxy x', createdAt: '', quiesced: false })).toEqual({
      removed: false,
      consolidated: false,
    })
  })

  it('finds a snapshot by the instance uuid when the VM has another reference', async () => {
    const snapshots = createSnapshots(vsphere)
    const claim = ids.claim()
    const made = await snapshots.create(vm, { claim })
    expect((await snapshots.find({ ...vm, moref: 'vm-before' }, claim))?.moref).toBe(made.moref)
    await snapshots.remove(made)
  })
})

describePeer('vcsim-lite', "change tracking in VMware's own encoding", (program) => {
  it('pages through changed areas, and says why there are none', async () => {
    await using sim = await startVcsimLite(program, ['-vm', '1'])
    await using vsphere = await sim.connect()
    const [vm] = await selectVms(vsphere, ['DC0_H0_VM0'])
    if (vm === undefined) throw new Error('no VM')
    const snapshots = createSnapshots(vsphere)
    const made = await snapshots.create(vm, { claim: ids.claim(), quiesce: { timeoutMinutes: 15 } })
    const [disk] = (await snapshots.configOf(made, await describeVm(vsphere, vm))).disks
    if (disk === undefined) throw new Error('no disk')
    await expect(Array.fromAsync(snapshots.allocated(made, disk))).rejects.toMatchObject({
      code: 'INTEGRITY',
      message: expect.stringContaining('tracking is off'),
    })
    await snapshots.remove(made)
  })
})
