import { plainLength } from './blob-records.ts'
import type { BlobToOpen, PackedBlob } from './packed-blob.ts'
import { MOST_BLOCKS } from './seal-tasks.ts'

/** Bytes between two blobs of a pack that are read and thrown away rather than asked for around. */
const MOST_GAP = 64 * 1024
/** What the seals of incompressible blocks that fill a slot may take beyond it. */
const SEALS = 32 * 1024
/** Blobs that are put together with those of others: as many as a thread digests side by side. Larger groups are whole as they are. */
const MOST_TOGETHER = 4

/** Where a blob, or several neighbours, lie in a pack, and what they come to. */
type Span = { readonly start: number; readonly end: number; readonly plain: number; readonly count: number }

/** Neighbours of one pack, in the order of their offsets, that are to be opened. */
export type Opening = {
  readonly pack: string
  readonly blobs: readonly BlobToOpen[]
  /** Of who asked: only what ends together goes together. */
  readonly signal: AbortSignal | undefined
  readonly resolve: (failed: readonly BlobToOpen[]) => void
  readonly reject: (error: unknown) => void
}

/** Openings that wait for a slot. Each is taken once. */
export class OpeningQueue {
  readonly #byPack = new Map<string, Map<Opening, Span>>()
  /** Of a slot, plain bytes. */
  readonly #room: number

  constructor(room: number) {
    this.#room = room
  }

  add(opening: Opening): void {
    const waiting = this.#byPack.get(opening.pack) ?? new Map<Opening, Span>()
    this.#byPack.set(opening.pack, waiting.set(opening, spanOf(opening.blobs)))
  }

  /** This one, and those that wait beside it in the pack and fit into a slot with it, in the order of their offsets; none when it was taken with another one before. */
  take(opening: Opening): readonly Opening[] {
    const waiting = this.#byPack.get(opening.pack)
    let whole = waiting?.get(opening)
    if (waiting === undefined || whole === undefined) return []
    const beside = [...waiting].filter(([{ signal }]) => signal === opening.signal).sort(([, a], [, b]) => a.start - b.start)
    const at = beside.findIndex(([each]) => each === opening)
    const taken = [opening]
    for (const [step, from] of [
      [1, at + 1],
      [-1, at - 1],
    ] as const) {
      for (let next = beside[from], index = from; next !== undefined; index += step, next = beside[index]) {
        const [other, span] = next
        const joined: Span = step > 0 ? join(whole, span) : join(span, whole)
        const gap = step > 0 ? span.start - whole.end : whole.start - span.end
        if (!isNear(gap) || joined.count > MOST_TOGETHER || !fits(joined, this.#room)) break
        whole = joined
        if (step > 0) taken.push(other)
        else taken.unshift(other)
      }
    }
    for (const each of taken) waiting.delete(each)
    if (waiting.size === 0) this.#byPack.delete(opening.pack)
    return taken
  }

  /** Whether it still waited; it does not any more. */
  drop(opening: Opening): boolean {
    const waiting = this.#byPack.get(opening.pack)
    const waited = waiting?.delete(opening) === true
    if (waiting?.size === 0) this.#byPack.delete(opening.pack)
    return waited
  }
}

/** Neighbours among blobs of a pack, in the order of their offsets, that fit into a slot of this room, sealed and plain. */
export function* neighbours<B extends PackedBlob>(blobs: readonly B[], room: number): Generator<readonly B[]> {
  let group: B[] = []
  let whole: Span | undefined
  for (const blob of blobs) {
    const span = spanOf([blob])
    const joined = whole === undefined ? span : join(whole, span)
    if (whole !== undefined && !(isNear(span.start - whole.end) && fits(joined, room))) {
      yield group
      group = []
      whole = span
    } else whole = joined
    group.push(blob)
  }
  if (group.length > 0) yield group
}

const isNear = (gap: number): boolean => gap >= 0 && gap <= MOST_GAP

const fits = ({ start, end, plain, count }: Span, room: number): boolean =>
  plain <= room && end - start <= room + SEALS && count <= MOST_BLOCKS

function spanOf(blobs: readonly PackedBlob[]): Span {
  const start = blobs[0]?.offset ?? 0
  const last = blobs.at(-1)
  const plain = blobs.reduce((sum, blob) => sum + plainLength(blob), 0)
  return { start, end: last === undefined ? start : last.offset + last.length, plain, count: blobs.length }
}

const join = (before: Span, after: Span): Span => ({
  start: before.start,
  end: after.end,
  plain: before.plain + after.plain,
  count: before.count + after.count,
})
