import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentError, type DiskRef, mergeRanges, type Range } from '../core/index.ts'
import { type ChangedWindow, VimFault, VimNode } from '../vsphere/index.ts'
import { changedAreas, type QueryWindow } from './changed-areas.ts'

const SIZE = 1_000_000
const disk = { label: 'scsi0:0', capacityBytes: SIZE } as DiskRef
const window = (startOffset: number, length: number, ...areas: readonly Range[]): ChangedWindow => ({ startOffset, length, areas })
const all = (query: QueryWindow): Promise<Range[]> => Array.fromAsync(changedAreas(disk, query))

describe('changedAreas', () => {
  it('goes on behind an empty window, and joins neighbours across windows', async () => {
    const answers = [
      window(0, 400_000, { offset: 399_000, length: 1000 }),
      window(400_000, 100_000),
      window(500_000, 500_000, { offset: 500_000, length: 7 }),
    ]
    expect(await all((offset) => Promise.resolve(answers.find(({ startOffset }) => startOffset === offset) ?? window(-1, 0)))).toEqual([
      { offset: 399_000, length: 1000 },
      { offset: 500_000, length: 7 },
    ])
    const joined = [window(0, 500_000, { offset: 499_000, length: 1000 }), window(500_000, 500_000, { offset: 500_000, length: 7 })]
    expect(await all((offset) => Promise.resolve(joined[offset === 0 ? 0 : 1] ?? window(-1, 0)))).toEqual([
      { offset: 499_000, length: 1007 },
    ])
  })

  it('gives exactly the areas the server knows, however it pages them', async () => {
    const range = fc.record({ offset: fc.nat(SIZE - 1), length: fc.integer({ min: 1, max: 50_000 }) })
    await fc.assert(
      fc.asyncProperty(
        fc.array(range, { maxLength: 30 }),
        fc.array(fc.integer({ min: 1, max: 300_000 }), { minLength: 1, maxLength: 9 }),
        async (ranges, steps) => {
          const truth = mergeRanges(ranges.map(({ offset, length }) => ({ offset, length: Math.min(length, SIZE - offset) })))
          let asked = 0
          const query: QueryWindow = (offset) => {
            const length = Math.min(SIZE - offset, steps[asked++ % steps.length] ?? 1)
            const areas = truth
              .map((one) => ({ offset: Math.max(one.offset, offset), end: Math.min(one.offset + one.length, offset + length) }))
              .filter(({ offset: start, end }) => end > start)
              .map(({ offset: start, end }) => ({ offset: start, length: end - start }))
            return Promise.resolve(window(offset, length, ...areas.reverse()))
          }
          if (steps.every((step) => step < 1000)) return
          expect(await all(query)).toEqual(truth)
        },
      ),
      { seed: 13, numRuns: 300 },
    )
  })

  it.each([
    ['another start', window(5, SIZE - 5), /answered from 5/],
    ['no progress', window(0, 0), /leads nowhere/],
    ['going back', window(0, -1), /leads nowhere/],
    ['no number', window(0, Number.NaN), /leads nowhere/],
    ['an end behind the disk', window(0, SIZE + 1), /lied about its end/],
    ['an area behind its answer', window(0, 1000, { offset: 999, length: 2 }), /outside its own answer/],
    ['an area before its answer', window(0, 1000, { offset: -1, length: 2 }), /overlap/],
    ['areas that overlap', window(0, SIZE, { offset: 0, length: 10 }, { offset: 5, length: 10 }), /overlap at 5/],
    ['an empty area', window(0, SIZE, { offset: 0, length: 0 }), /area of 0 bytes/],
    ['half an area', window(0, SIZE, { offset: 0, length: Number.NaN }), /area of NaN/],
  ])('does not believe %s', async (_what, answer, message) => {
    await expect(all(() => Promise.resolve(answer))).rejects.toMatchObject({ code: 'INTEGRITY', message: expect.stringMatching(message) })
  })

  const fault = (name: string, init: { readonly property?: string; readonly key?: string } = {}): AgentError => {
    const children = [
      ...(init.property === undefined ? [] : [new VimNode('invalidProperty', { text: init.property })]),
      ...(init.key === undefined ? [] : [new VimNode('faultMessage', { children: [new VimNode('key', { text: init.key })] })]),
    ]
    return new AgentError('UNAVAILABLE', 'failed', { cause: new VimFault(name, '', new VimNode('f', { children })) })
  }

  it.each([
    [fault('FileFault', { key: 'vim.hostd.vmsvc.cbt.noTrack' }), /tracking is off/],
    [fault('FileFault', { key: 'vim.hostd.vmsvc.cbt.noEpoch' }), /no record/],
    [fault('FileFault', { key: 'vim.hostd.vmsvc.cbt.cannotGetChanges' }), /damaged/],
    [fault('FileFault'), /cannot read its tracking file/],
    [fault('InvalidArgument', { property: 'changeId' }), /not valid any more/],
    [fault('InvalidArgument', { property: 'startOffset' }), /startOffset/],
  ])('says why there is no map: %o', async (refusal, message) => {
    await expect(all(() => Promise.reject(refusal))).rejects.toMatchObject({ code: 'INTEGRITY', message: expect.stringMatching(message) })
  })

  it('passes other errors on as they are, and stops when told to', async () => {
    await expect(all(() => Promise.reject(fault('NoPermission')))).rejects.toMatchObject({ code: 'UNAVAILABLE', message: 'failed' })
    const areas = changedAreas(disk, () => Promise.resolve(window(0, 1)), { signal: AbortSignal.abort() })
    await expect(Array.fromAsync(areas)).rejects.toMatchObject({ code: 'CANCELED' })
  })
})
