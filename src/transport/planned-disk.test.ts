import { describe, expect, test } from 'vitest'
import {
  AgentError,
  type BlockSource,
  type DiskRef,
  type Extent,
  silentLog,
  systemClock,
  type TransportName,
  type VmConfig,
} from '../core/index.ts'
import { memorySource } from '../disk/index.ts'
import { openPlanned, type ReopenPolicy } from './planned-disk.ts'
import type { SnapshotDisk, Transport } from './transport.ts'

const SIZE = 64 * 1024
const NO_REOPEN: ReopenPolicy = { attempts: 0, lastAttempts: 0, delayMs: 1, maxDelayMs: 1 }
const AROUND = { log: silentLog, clock: systemClock, reopen: NO_REOPEN }
const bytes = Uint8Array.from({ length: SIZE }, (_, index) => (index * 31) % 251)
const disk: DiskRef = {
  key: 2000,
  label: 'scsi0:0',
  capacityBytes: SIZE,
  backing: 'flat',
  diskMode: 'persistent',
  fileName: '[ds] a/a.vmdk',
  chain: [],
  thin: true,
}
const vm = { moref: 'vm-1', name: 'a', instanceUuid: 'i', biosUuid: 'b', vcenterUuid: 'v', path: '/DC/vm/a' }
const snapshotDisk: SnapshotDisk = {
  disk,
  config: { vm } as VmConfig,
  snapshot: { vm, moref: 'snapshot-1', name: 's', createdAt: '2026-01-01T00:00:00Z', quiesced: false },
}

/** A transport over the same bytes; `failAfter` reads it breaks with `error`. */
function transport(
  name: TransportName,
  behaviour: { refuse?: string; openError?: Error; failAfter?: number; error?: Error } = {},
): Transport & { reads: number; closed: number } {
  const state = { reads: 0, closed: 0 }
  return Object.assign(state, {
    name,
    handles: () => ({ ok: true }) as const,
    probe: async () =>
      behaviour.refuse === undefined ? ({ ok: true, note: `by ${name}` } as const) : ({ ok: false, reason: behaviour.refuse } as const),
    open: async (): Promise<BlockSource> => {
      if (behaviour.openError !== undefined) throw behaviour.openError
      const inner = memorySource(bytes)
      const check = (): void => {
        if (behaviour.failAfter !== undefined && state.reads >= behaviour.failAfter) {
          throw behaviour.error ?? new AgentError('UNAVAILABLE', `${name} broke.`)
        }
      }
      return {
        size: SIZE,
        read: async (offset, into) => {
          check()
          state.reads++
          await inner.read(offset, into)
        },
        async *extents(range): AsyncGenerator<Extent> {
          for (let at = 0; at < range.length; at += 4096) {
            check()
            state.reads++
            yield { kind: 'data', offset: range.offset + at, length: Math.min(4096, range.length - at) }
          }
        },
        [Symbol.asyncDispose]: async () => {
          state.closed++
        },
      }
    },
  })
}

async function readAll(source: BlockSource, unit = 4096): Promise<Uint8Array> {
  const out = new Uint8Array(SIZE)
  const offsets = Array.from({ length: SIZE / unit }, (_, index) => index * unit)
  await Promise.all(offsets.map((offset) => source.read(offset, out.subarray(offset, offset + unit))))
  return out
}

describe('the plan of a disk', () => {
  test('takes the first transport that agrees and keeps every refusal with its reason', async () => {
    const planned = await openPlanned(
      snapshotDisk,
      [
        transport('san', { refuse: 'not mounted' }),
        transport('hotadd', { openError: new AgentError('CONFLICT', 'No slot is free.') }),
        transport('https'),
      ],
      AROUND,
    )
    await using source = planned.source
    expect(planned.transport).toBe('https')
    expect(planned.reason).toContain('after san, hotadd')
    expect(planned.refused).toEqual([
      { transport: 'san', reason: 'not mounted' },
      { transport: 'hotadd', reason: 'No slot is free.' },
    ])
    expect(await readAll(source)).toEqual(bytes)
  })

  test('goes on with the next transport when one fails in mid-run; nothing is read twice but the failed read', async () => {
    const [first, second] = [transport('san', { failAfter: 7 }), transport('https')]
    const planned = await openPlanned(snapshotDisk, [first, second], AROUND)
    {
      await using source = planned.source
      expect(await readAll(source)).toEqual(bytes)
      expect(first.reads).toBe(7)
      expect(second.reads).toBe(SIZE / 4096 - 7)
      expect(planned.transport).toBe('https')
      expect(planned.refused).toEqual([{ transport: 'san', reason: expect.stringContaining('failed while reading') }])
    }
    expect([first.closed, second.closed]).toEqual([1, 1])
  })

  test('a listing of extents goes on where it broke, without a gap', async () => {
    const planned = await openPlanned(snapshotDisk, [transport('san', { failAfter: 5 }), transport('https')], AROUND)
    await using source = planned.source
    let at = 0
    for await (const extent of source.extents({ offset: 0, length: SIZE })) {
      expect(extent.offset).toBe(at)
      at += extent.length
    }
    expect(at).toBe(SIZE)
  })

  test('damaged data is not hidden by another transport', async () => {
    const other = transport('https')
    const planned = await openPlanned(
      snapshotDisk,
      [transport('san', { failAfter: 0, error: new AgentError('INTEGRITY', 'The table is damaged.') }), other],
      AROUND,
    )
    await using source = planned.source
    await expect(source.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'INTEGRITY' })
    expect(other.reads).toBe(0)
  })

  test('when none is left the error names every transport and its reason', async () => {
    await expect(
      openPlanned(snapshotDisk, [transport('san', { refuse: 'not mounted' }), transport('https', { refuse: 'no ranges' })], AROUND),
    ).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/san: not mounted; https: no ranges/),
    })
  })
})
