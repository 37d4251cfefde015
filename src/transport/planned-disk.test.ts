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
import { FakeClock } from '../../test/lab/fake-clock.ts'
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

/** Lets everything that is due run. */
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve()
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

  const reopen: ReopenPolicy = { attempts: 3, lastAttempts: 5, delayMs: 100, maxDelayMs: 400 }

  /** Broken until `back` opens were tried; counts them. */
  function breaking(back: number, error = new AgentError('UNAVAILABLE', 'The connection was cut.')): Transport & { opens: number } {
    const state = { opens: 0 }
    return Object.assign(state, {
      name: 'https' as const,
      handles: () => ({ ok: true }) as const,
      probe: async () => ({ ok: true }) as const,
      open: async (): Promise<BlockSource> => {
        const number = ++state.opens
        if (number > 1 && number < back) throw error
        const inner = memorySource(bytes)
        return {
          ...inner,
          size: SIZE,
          read: async (offset, into) => {
            if (number === 1) throw new AgentError('UNAVAILABLE', 'The connection was cut.')
            await inner.read(offset, into)
          },
          extents: (range) => inner.extents(range),
          [Symbol.asyncDispose]: async () => undefined,
        }
      },
    })
  }

  test('opens the broken transport again, with a growing pause, and says how often and why', async () => {
    const clock = new FakeClock()
    const only = breaking(4)
    const planned = await openPlanned(snapshotDisk, [only], { log: silentLog, clock, reopen })
    await using source = planned.source
    const into = new Uint8Array(512)
    // Two readers, one re-opening.
    const read = Promise.all([source.read(0, into), source.read(4096, new Uint8Array(512))])
    const opens: number[] = []
    for (const pause of [99, 1, 200, 400]) {
      await settle()
      clock.advance(pause)
      await settle()
      opens.push(only.opens)
    }
    await read
    expect(opens).toEqual([1, 2, 3, 4])
    expect(into).toEqual(bytes.subarray(0, 512))
    expect(planned.resumed).toBe(1)
    expect(planned.reason).toBe('usable, first choice; opened again once after: The connection was cut.')
    expect(planned.refused).toEqual([])
  })

  test('gives up after the configured tries: sooner where another transport is left', async () => {
    const around = { log: silentLog, clock: systemClock, reopen: { ...reopen, delayMs: 0, maxDelayMs: 0 } }
    const first = breaking(100)
    const two = await openPlanned(snapshotDisk, [first, transport('san')], around)
    await using both = two.source
    await both.read(0, new Uint8Array(512))
    expect([first.opens, two.transport]).toEqual([1 + 3, 'san'])
    const only = breaking(100)
    const one = await openPlanned(snapshotDisk, [only], around)
    await using last = one.source
    await expect(last.read(0, new Uint8Array(512))).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('No transport can read'),
    })
    expect(only.opens).toBe(1 + 5)
    // Exhausted is exhausted: no further read waits for tries of its own.
    await expect(last.read(512, new Uint8Array(512))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(only.opens).toBe(1 + 5)
  })

  test('comes back to the broken transport for the longer time when those that are left refuse', async () => {
    const around = { log: silentLog, clock: systemClock, reopen: { ...reopen, delayMs: 0, maxDelayMs: 0 } }
    const first = breaking(1 + 5)
    const others = [transport('san', { refuse: 'not mounted' }), transport('lease', { openError: new AgentError('UNAVAILABLE', 'Away.') })]
    const planned = await openPlanned(snapshotDisk, [first, ...others], around)
    await using source = planned.source
    const into = new Uint8Array(512)
    await source.read(0, into)
    expect(into).toEqual(bytes.subarray(0, 512))
    expect([first.opens, planned.transport, planned.resumed]).toEqual([1 + 5, 'https', 1])
    expect(planned.refused).toEqual([
      { transport: 'san', reason: 'not mounted' },
      { transport: 'lease', reason: 'Away.' },
    ])
    const [never, refusing] = [breaking(100), transport('san', { refuse: 'not mounted' })]
    const lost = await openPlanned(snapshotDisk, [never, refusing], around)
    await using gone = lost.source
    await expect(gone.read(0, new Uint8Array(512))).rejects.toMatchObject({
      message: expect.stringMatching(/https: failed while reading: The connection was cut.; san: not mounted/),
    })
    expect(never.opens).toBe(1 + 5)
  })

  test('a file found to be another one when it is opened again ends the backup; no other transport hides it', async () => {
    const other = transport('san')
    const planned = await openPlanned(snapshotDisk, [breaking(100, new AgentError('INTEGRITY', 'Another disk.')), other], {
      log: silentLog,
      clock: systemClock,
      reopen: { ...reopen, delayMs: 0 },
    })
    await using source = planned.source
    await expect(source.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'INTEGRITY' })
    expect(other.reads).toBe(0)
  })

  test('an error that trying at once cannot mend goes to the next transport at once', async () => {
    const never = new AgentError('UNAVAILABLE', 'No ranges.', { retry: 'never' })
    const [first, second] = [transport('https', { failAfter: 0, error: never }), transport('san')]
    const planned = await openPlanned(snapshotDisk, [first, second], { log: silentLog, clock: new FakeClock(), reopen })
    await using source = planned.source
    await source.read(0, new Uint8Array(512))
    expect([planned.transport, planned.resumed]).toEqual(['san', 0])
  })

  test('a canceled reader stops waiting for a re-opening; closing the disk ends it', async () => {
    const only = breaking(2)
    const planned = await openPlanned(snapshotDisk, [only], {
      log: silentLog,
      clock: systemClock,
      reopen: { ...reopen, delayMs: 60_000, maxDelayMs: 60_000 },
    })
    const cancel = new AbortController()
    const read = planned.source.read(0, new Uint8Array(512), { signal: cancel.signal }).catch((error: unknown) => error)
    await settle()
    cancel.abort()
    expect(await read).toMatchObject({ code: 'CANCELED' })
    await planned.source[Symbol.asyncDispose]()
    expect(only.opens).toBe(1)
  })

  test('an area that never comes does not hold the disk for ever while others are read', async () => {
    const inner = memorySource(bytes)
    let opens = 0
    const poisoned: Transport = {
      ...transport('https'),
      open: async () => {
        opens++
        return {
          size: SIZE,
          read: async (offset, into) => {
            if (offset === 0) throw new AgentError('UNAVAILABLE', 'Sector 0 is bad.')
            await inner.read(offset, into)
          },
          extents: (range) => inner.extents(range),
          [Symbol.asyncDispose]: async () => undefined,
        }
      },
    }
    const planned = await openPlanned(snapshotDisk, [poisoned], {
      log: silentLog,
      clock: systemClock,
      reopen: { ...reopen, delayMs: 0, maxDelayMs: 0 },
    })
    await using source = planned.source
    const over = new AbortController()
    const others = (async () => {
      while (!over.signal.aborted) {
        await source.read(4096, new Uint8Array(512)).catch(() => undefined)
        await systemClock.sleep(0)
      }
    })()
    await expect(source.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    over.abort()
    await others
    expect(opens).toBeLessThanOrEqual(1 + 5)
  })
})
