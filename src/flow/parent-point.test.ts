import { describe, expect, test } from 'vitest'
import { AgentError, type PointId, type PointSummary, type VmRef } from '../core/index.ts'
import type { BackupProvider, BackupReader } from '../provider/index.ts'
import { earlierPoints } from './expected-run.ts'
import { chooseParent as choose, type ParentChoice } from './parent-point.ts'

const vm: VmRef = { moref: 'vm-9', name: 'web', instanceUuid: 'i', biosUuid: 'b', vcenterUuid: 'v', path: '/DC/vm/web' }
const point = (id: string, time: string, more: Partial<PointSummary> = {}): PointSummary =>
  ({ id: id as PointId, time, instanceUuid: 'i', vcenterUuid: 'v', vmName: 'web', ...more }) as PointSummary

const provider = (points: readonly PointSummary[], open?: (id: string) => never): BackupProvider =>
  ({
    incremental: { ok: true },
    points: {
      list: async function* () {
        yield* points
      },
      open: async (id: string): Promise<BackupReader> =>
        open?.(id) ?? ({ id, manifest: { disks: [] }, [Symbol.asyncDispose]: async () => undefined } as unknown as BackupReader),
    },
  }) as unknown as BackupProvider

const chooseParent = async (of: BackupProvider, vm: VmRef, mode: 'auto' | 'full'): Promise<ParentChoice> =>
  choose(of, await earlierPoints(of, vm, mode), mode)

describe('the point an incremental builds on', () => {
  test('is the newest by time, whatever zone it was written in, of this very VM', async () => {
    const points = [
      point('a', '2026-11-22T01:00:00Z'),
      point('b', '2026-11-22T03:00:00+02:00'),
      point('c', '2026-11-22T02:30:00+01:00'),
      point('other', '2026-11-23T00:00:00Z', { instanceUuid: 'x' }),
      point('elsewhere', '2026-11-23T00:00:00Z', { vcenterUuid: 'x' }),
    ]
    expect((await chooseParent(provider(points), vm, 'auto')).parent?.id).toBe('c')
  })

  test('is none, with the reason, when a full is asked for, when there is none, and when the last one cannot be read', async () => {
    expect(await chooseParent(provider([point('a', '2026-11-22T01:00:00Z')]), vm, 'full')).toEqual({
      parent: undefined,
      reason: 'a full backup was asked for',
    })
    expect((await chooseParent(provider([]), vm, 'auto')).reason).toContain('no earlier point')
    const damaged = provider([point('abcdefghij', '2026-11-22T01:00:00Z')], () => {
      throw new AgentError('INTEGRITY', 'The manifest is damaged.')
    })
    expect((await chooseParent(damaged, vm, 'auto')).reason).toContain('abcdefgh cannot be read: The manifest is damaged.')
  })

  test('a repository that cannot be reached is not taken for one without points', async () => {
    const gone = provider([point('a', '2026-11-22T01:00:00Z')], () => {
      throw new AgentError('UNAVAILABLE', 'The disk is gone.')
    })
    await expect(chooseParent(gone, vm, 'auto')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })
})
