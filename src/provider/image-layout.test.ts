import { expect, it } from 'vitest'
import { GIB, KIB, MIB } from '../core/index.ts'
import { BLOCK_SIZES, blockBytesFor, DEFAULT_SIZES, LARGEST_BLOCK, layoutFor, layoutOf } from './image-layout.ts'

const TIB = 1024 * GIB

it('cuts small disks into small blocks and large disks into few', () => {
  expect([512, 8 * GIB, TIB].map(blockBytesFor)).toEqual([256 * KIB, 256 * KIB, 256 * KIB])
  expect([TIB + 512, 62 * TIB].map(blockBytesFor)).toEqual([MIB, MIB])
  expect(Math.max(...BLOCK_SIZES)).toBe(LARGEST_BLOCK)
})

it('cuts extents into whole blocks, whatever their size', () => {
  for (const size of [16 * GIB, 17 * GIB, 3 * TIB, 62 * TIB]) {
    const layout = layoutFor(size)
    expect(layout.extentBytes === undefined ? 0 : layout.extentBytes % layout.blockBytes).toBe(0)
    expect(layout.sizeOf(layout.count - 1) + layout.startOf(layout.count - 1)).toBe(size)
  }
  expect(layoutFor(TIB, { ...DEFAULT_SIZES, blockBytes: MIB }).blockBytes).toBe(MIB)
})

it('reads a manifest of an early version as blocks of 1 MiB', () => {
  expect(layoutOf(GIB, undefined).blockBytes).toBe(MIB)
  expect(() => layoutOf(511, undefined)).toThrow('cannot be')
})
