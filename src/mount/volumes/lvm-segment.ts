import type { BlockSource } from '../../core/index.ts'
import { run, type Stretch } from './disk-view.ts'
import { countOf, listOf, type LvmSection, textOf } from './lvm-text.ts'

/** What a physical volume of a group gives: its bytes, where its extents begin (bytes), how many there are. */
export type ExtentHolder = { readonly source: BlockSource; readonly start: number; readonly extents: number }

const SECTOR = 512
const MOST_STRIPES = 128

/** What a segment is made of, or why not: the name of a kind that is not opened, a physical volume that is missing, or that its numbers are wrong. */
export type Segment =
  | { readonly kind: 'stretch'; readonly firstExtent: number; readonly extents: number; readonly stretch: Stretch }
  | { readonly kind: 'type'; readonly type: string }
  | { readonly kind: 'missing'; readonly holder: string }
  | { readonly kind: 'wrong' }

/** Linear and striped segments; `holders` by their name in the metadata, undefined for one that is not among the disks. */
export function readSegment(segment: LvmSection, extentBytes: number, holders: ReadonlyMap<string, ExtentHolder | undefined>): Segment {
  const type = textOf(segment['type'])
  if (type !== 'striped' && type !== 'linear') return { kind: 'type', type: type ?? 'unknown' }
  const [firstExtent, extents] = [countOf(segment['start_extent']), countOf(segment['extent_count'])]
  const stripes = countOf(segment['stripe_count']) ?? 1
  const list = listOf(segment['stripes'])
  if (firstExtent === undefined || extents === undefined || extents === 0) return { kind: 'wrong' }
  if (stripes < 1 || stripes > MOST_STRIPES || list.length !== stripes * 2 || extents % stripes !== 0) return { kind: 'wrong' }
  const length = extents * extentBytes
  const column = length / stripes
  if (!Number.isSafeInteger(length)) return { kind: 'wrong' }
  const columns: { readonly source: BlockSource; readonly offset: number }[] = []
  for (let index = 0; index < list.length; index += 2) {
    const [name, first] = [textOf(list[index]), countOf(list[index + 1])]
    if (name === undefined || first === undefined || !holders.has(name)) return { kind: 'wrong' }
    const holder = holders.get(name)
    if (holder === undefined) return { kind: 'missing', holder: name }
    const offset = holder.start + first * extentBytes
    if (first + extents / stripes > holder.extents || offset + column > holder.source.size) return { kind: 'wrong' }
    columns.push({ source: holder.source, offset })
  }
  const [only] = columns
  if (only === undefined) return { kind: 'wrong' }
  if (columns.length === 1) return { kind: 'stretch', firstExtent, extents, stretch: run(only.source, only.offset, length) }
  const stripe = (countOf(segment['stripe_size']) ?? 0) * SECTOR
  if (stripe === 0 || stripe > column || column % stripe !== 0) return { kind: 'wrong' }
  return { kind: 'stretch', firstExtent, extents, stretch: striped(columns, stripe, length) }
}

/** Stripe after stripe goes to one column after the other. */
function striped(columns: readonly { readonly source: BlockSource; readonly offset: number }[], stripe: number, length: number): Stretch {
  return {
    length,
    locate: (at) => {
      const number = Math.floor(at / stripe)
      const column = columns[number % columns.length]
      if (column === undefined) throw new RangeError('a segment without columns')
      const inside = at % stripe
      return {
        source: column.source,
        offset: column.offset + Math.floor(number / columns.length) * stripe + inside,
        length: stripe - inside,
      }
    },
  }
}
