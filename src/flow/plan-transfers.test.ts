import { describe, expect, test } from 'vitest'
import { AgentError, type DiskFacts, type DiskRef, type Manifest, type PointId, type Range, type SnapshotRef } from '../core/index.ts'
import type { Snapshots } from '../snapshot/index.ts'
import { planTransfers, type TransferQuestion } from './plan-transfers.ts'

const CAPACITY = 1024 * 1024
const ID = '52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63'
const disk: DiskRef = {
  key: 2000,
  label: 'scsi0:0',
  capacityBytes: CAPACITY,
  backing: 'flat',
  diskMode: 'persistent',
  fileName: '[ds] a/a.vmdk',
  chain: ['[ds] a/a.vmdk'],
  uuid: 'u',
  changeId: `${ID}/9`,
  thin: true,
}
const facts = {
  key: 2000,
  label: 'scsi0:0',
  capacityBytes: CAPACITY,
  fileName: '[ds] a/a.vmdk',
  uuid: 'u',
  changeId: `${ID}/8`,
  thin: true,
} as DiskFacts
const snapshot = { moref: 's' } as SnapshotRef
const parent = (disks: readonly DiskFacts[]) => ({ id: 'p' as PointId, manifest: { disks } as unknown as Manifest })

async function* ranges(...list: readonly Range[]): AsyncGenerator<Range> {
  yield* list
}
async function* broken(list: readonly Range[], error: Error): AsyncGenerator<Range> {
  yield* list
  throw error
}

const snapshots = (answers: { changed?: () => AsyncIterable<Range>; allocated?: () => AsyncIterable<Range> }): Snapshots =>
  ({
    changed: answers.changed ?? (() => ranges()),
    allocated: answers.allocated ?? (() => ranges({ offset: 0, length: 4096 })),
  }) as unknown as Snapshots

const question = (more: Partial<TransferQuestion> = {}): TransferQuestion => ({
  snapshot,
  disks: [disk],
  parent: parent([facts]),
  reason: '',
  allocatedMap: true,
  ...more,
})

describe('what to transfer of a disk', () => {
  test('changed areas, when the parent holds the disk and tracking went on', async () => {
    const [plan] = await planTransfers(snapshots({ changed: () => ranges({ offset: 65536, length: 65536 }) }), question())
    expect(plan).toMatchObject({ mode: 'incremental' })
    expect([...(plan?.areas ?? [])]).toEqual([{ offset: 65536, length: 65536 }])
  })

  test('nothing changed is an incremental of nothing, not a full', async () => {
    const [plan] = await planTransfers(snapshots({}), question())
    expect(plan).toMatchObject({ mode: 'incremental' })
    expect(plan?.areas.bytes).toBe(0)
  })

  test('an answer that breaks half-way is thrown away whole: full read with the reason', async () => {
    const [plan] = await planTransfers(
      snapshots({ changed: () => broken([{ offset: 0, length: 512 }], new AgentError('INTEGRITY', 'The windows do not add up.')) }),
      question(),
    )
    expect(plan).toMatchObject({ mode: 'full', reason: expect.stringContaining('do not add up') })
    expect([...(plan?.areas ?? [])]).toEqual([{ offset: 0, length: 4096 }])
  })

  test.each([
    ['another tracking uuid', { ...facts, changeId: '00 00 c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/8' }],
    ['another capacity', { ...facts, capacityBytes: CAPACITY / 2 }],
    ['another disk', { ...facts, uuid: 'other' }],
    ['no changeId in the parent', { ...facts, changeId: undefined }],
  ])('%s makes a full read', async (_, old) => {
    const [plan] = await planTransfers(snapshots({}), question({ parent: parent([old]) }))
    expect(plan).toMatchObject({ mode: 'full', reason: expect.stringMatching(/\S/) })
  })

  test('what is read in full may be compared by digests, whatever tracking says, where the parent holds the disk in its size', async () => {
    const added = { ...disk, key: 2001, label: 'scsi0:1' }
    const compared = async (old: readonly DiskFacts[], now: DiskRef = disk): Promise<unknown> =>
      (await planTransfers(snapshots({}), question({ parent: parent(old), disks: [now] })))[0]
    expect(await compared([{ ...facts, changeId: undefined }])).toMatchObject({ mode: 'full', selectedBy: 'allocated', compare: true })
    expect(await compared([{ ...facts, uuid: 'other' }])).toMatchObject({ mode: 'full', compare: true })
    expect(await compared([{ ...facts, capacityBytes: CAPACITY / 2 }])).toMatchObject({ mode: 'full', compare: false })
    expect(await compared([facts], added)).toMatchObject({ mode: 'full', compare: false })
    expect(await compared([facts])).toMatchObject({ mode: 'incremental', selectedBy: 'changedAreas' })
    const [first] = await planTransfers(snapshots({}), question({ parent: undefined, reason: 'first' }))
    expect(first?.compare).toBeUndefined()
  })

  test('a disk the parent does not have is read in full beside incrementals of the others', async () => {
    const added = { ...disk, key: 2001, label: 'scsi0:1' }
    const plans = await planTransfers(snapshots({}), question({ disks: [disk, added] }))
    expect(plans.map((plan) => plan.mode)).toEqual(['incremental', 'full'])
  })

  test('the map of allocated areas is not used when it cannot be trusted, nor when it faults', async () => {
    const [untrusted] = await planTransfers(snapshots({}), question({ parent: undefined, reason: 'first', allocatedMap: false }))
    expect([...(untrusted?.areas ?? [])]).toEqual([{ offset: 0, length: CAPACITY }])
    const [faulty] = await planTransfers(
      snapshots({ allocated: () => broken([{ offset: 0, length: 512 }], new AgentError('UNAVAILABLE', 'noEpoch')) }),
      question({ parent: undefined, reason: 'first' }),
    )
    expect([...(faulty?.areas ?? [])]).toEqual([{ offset: 0, length: CAPACITY }])
  })

  test('a cancel is not taken for a doubt', async () => {
    await expect(
      planTransfers(snapshots({ changed: () => broken([], new AgentError('CANCELED', 'stop')) }), question()),
    ).rejects.toMatchObject({ code: 'CANCELED' })
  })
})
