import { expect, test } from 'vitest'
import type { BlockSource } from '../../src/core/index.ts'
import type { OpenDisk, Transport } from '../../src/transport/index.ts'
import { compareDisk, makeChain } from './compare.ts'
import { diskKinds, scenarioOf } from './disk-kinds.ts'
import { wrongCells } from './table.ts'
import { TRANSPORTS, type TransportUnderTest } from './transports.ts'
import { openTransportWorld } from './world.ts'

/* The table is worth something only if it can fail. */
test('the table sees one flipped bit and data called zero', { timeout: 120_000 }, async () => {
  const [kind] = diskKinds(4).filter(({ name }) => name === 'SE-sparse chain')
  const san = TRANSPORTS.find(({ name }) => name === 'san')
  if (kind === undefined || san === undefined) throw new Error('nothing to read')
  await using world = await openTransportWorld(scenarioOf([kind]))
  await makeChain(world, kind)
  /** `san`, with something done to its disks. */
  const altered = (change: (source: OpenDisk) => Partial<BlockSource>): TransportUnderTest => ({
    name: 'san',
    make: (site): Transport => {
      const right = san.make(site)
      return {
        ...right,
        open: async (disk, options) => {
          const source = await right.open(disk, options)
          return {
            size: source.size,
            read: (offset, into, reading) => source.read(offset, into, reading),
            extents: (range, reading) => source.extents(range, reading),
            [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
            ...change(source),
          }
        },
      }
    },
  })
  const flips = altered((source) => ({
    read: async (offset, into, options) => {
      await source.read(offset, into, options)
      into[into.length - 1] = (into.at(-1) ?? 0) ^ 1
    },
  }))
  let listed = 0
  const hides = altered((source) => ({
    extents: async function* (range, options) {
      for await (const extent of source.extents(range, options))
        yield extent.kind === 'data' && ++listed === 3 ? { ...extent, kind: 'zero' as const } : extent
    },
  }))
  for (const tested of [flips, hides]) {
    const [full] = await compareDisk(world, kind, [tested])
    expect(wrongCells(full === undefined ? [] : [full])).toEqual([expect.stringContaining('DIFFERS')])
  }
  const right = await compareDisk(world, kind, [altered(() => ({}))])
  expect(wrongCells(right)).toEqual([])
})
