import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AgentError, type BlockSource, type DiskRef, type Extent, silentLog, systemClock, type VmConfig } from '../../src/core/index.ts'
import { openPlanned, type PlannedDisk, type SnapshotDisk, type Transport } from '../../src/transport/index.ts'

/* Connections that are cut wherever chance wants: the bytes are right, each block comes over once, and once more per cut at most. */
const BLOCK = 4096
const BLOCKS = 64
const SIZE = BLOCK * BLOCKS
const image = Uint8Array.from({ length: SIZE }, (_, index) => (index * 31 + (index >> 8)) % 251)
const vm = { moref: 'vm-1', name: 'a', instanceUuid: 'i', biosUuid: 'b', vcenterUuid: 'v', path: '/DC/vm/a' }
const disk: SnapshotDisk = {
  disk: { key: 2000, label: 'scsi0:0', capacityBytes: SIZE, fileName: '[ds] a/a.vmdk', chain: [] } as unknown as DiskRef,
  config: { vm } as VmConfig,
  snapshot: { vm, moref: 'snapshot-1', name: 's', createdAt: '2026-01-01T00:00:00Z', quiesced: false },
}

type Wire = { served: number; cuts: number; opens: number; closes: number }

/** A transport whose connection is cut after each number of bytes of `cuts`, in turn; every source of it is dead then. */
function cutTransport(name: 'san' | 'https', cuts: readonly number[], openFails: readonly boolean[]): Transport & { wire: Wire } {
  const wire: Wire = { served: 0, cuts: 0, opens: 0, closes: 0 }
  const left = [...cuts]
  const fails = [...openFails]
  let budget = left.shift() ?? Number.POSITIVE_INFINITY
  let generation = 0
  return {
    wire,
    name,
    handles: () => ({ ok: true }),
    probe: async () => ({ ok: true }),
    open: async (): Promise<BlockSource> => {
      if (wire.opens > 0 && fails.shift() === true) throw new AgentError('UNAVAILABLE', `${name} is away.`)
      wire.opens++
      const own = ++generation
      const take = async (bytes: number): Promise<void> => {
        await Promise.resolve()
        if (own !== generation) throw new AgentError('UNAVAILABLE', `${name} was cut before.`)
        if (bytes > budget) {
          wire.served += budget
          wire.cuts++
          generation++
          budget = left.shift() ?? Number.POSITIVE_INFINITY
          throw new AgentError('UNAVAILABLE', `${name} was cut.`)
        }
        budget -= bytes
        wire.served += bytes
      }
      return {
        size: SIZE,
        read: async (offset, into) => {
          await take(into.length)
          into.set(image.subarray(offset, offset + into.length))
        },
        async *extents(range): AsyncGenerator<Extent> {
          for (let at = range.offset; at < range.offset + range.length; at += BLOCK) {
            await take(0)
            yield { kind: 'data', offset: at, length: Math.min(BLOCK, range.offset + range.length - at) }
          }
        },
        [Symbol.asyncDispose]: async () => {
          wire.closes++
        },
      }
    },
  }
}

const cuts = fc.array(fc.integer({ min: 0, max: SIZE / 2 }), { maxLength: 6 })
const openFails = fc.array(fc.boolean(), { maxLength: 5 })
const open = (transports: readonly Transport[], attempts: number): Promise<PlannedDisk> =>
  openPlanned(disk, transports, { log: silentLog, clock: systemClock, reopen: { attempts, lastAttempts: 12, delayMs: 0, maxDelayMs: 0 } })

/** Reads every block once, `width` at a time, in the order of the listing. */
async function readAll(source: BlockSource, width: number): Promise<Uint8Array> {
  const out = new Uint8Array(SIZE)
  let at = 0
  let batch: Promise<void>[] = []
  for await (const extent of source.extents({ offset: 0, length: SIZE })) {
    expect(extent.offset).toBe(at)
    at += extent.length
    batch.push(source.read(extent.offset, out.subarray(extent.offset, extent.offset + extent.length)))
    if (batch.length === width) {
      await Promise.all(batch)
      batch = []
    }
  }
  await Promise.all(batch)
  expect(at).toBe(SIZE)
  return out
}

describe('a read interrupted at a random offset', () => {
  test('goes on inside the same source: same bytes, nothing read twice but what was in flight', async () => {
    await fc.assert(
      fc.asyncProperty(cuts, openFails, fc.integer({ min: 1, max: 8 }), async (offsets, fails, width) => {
        const only = cutTransport('https', offsets, fails)
        const planned = await open([only], 3)
        {
          await using source = planned.source
          expect(Buffer.compare(await readAll(source, width), image)).toBe(0)
          // One cut, one re-opening, however many readers it hit.
          expect(planned.resumed).toBe(only.wire.opens - 1)
          expect(only.wire.opens - 1).toBeLessThanOrEqual(only.wire.cuts)
          expect(only.wire.served).toBeLessThanOrEqual(SIZE + only.wire.cuts * width * BLOCK)
          expect(planned.refused).toEqual([])
        }
        expect(only.wire.closes).toBe(only.wire.opens)
      }),
      { seed: 3, numRuns: 150 },
    )
  })

  test('goes on with the next transport when the first stays away, from where it was', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: SIZE - 1 }), cuts, fc.integer({ min: 1, max: 8 }), async (offset, later, width) => {
        const first = cutTransport(
          'san',
          [offset],
          Array.from({ length: 20 }, () => true),
        )
        const second = cutTransport('https', later, [])
        const planned = await open([first, second], 2)
        await using source = planned.source
        expect(Buffer.compare(await readAll(source, width), image)).toBe(0)
        expect(planned.transport).toBe('https')
        expect(planned.refused).toEqual([{ transport: 'san', reason: 'failed while reading: san is away.' }])
        expect(first.wire.served + second.wire.served).toBeLessThanOrEqual(SIZE + (1 + second.wire.cuts) * width * BLOCK)
      }),
      { seed: 4, numRuns: 100 },
    )
  })
})
