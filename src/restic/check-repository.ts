import { hash } from 'node:crypto'
import { type Abortable, AgentError, isAgentError, throwIfAborted } from '../core/index.ts'
import { BitSet } from './bit-set.ts'
import { BlobIndex, type BlobLocation } from './blob-index.ts'
import { DATA, plainLength, TREE } from './blob-records.ts'
import { type BlobOpener, type BlobStore, MAX_BLOB_BYTES, openBlob } from './blob-store.ts'
import { idBytes, idHex } from './ids.ts'
import type { IndexStore } from './index-store.ts'
import { headerEntryBytes, MAX_HEADER_BYTES, packTailBytes, parsePackHeader } from './pack-header.ts'
import type { CheckOptions, RepositoryProblem, RepositorySize, SnapshotStore } from './repository.ts'
import type { SealedFiles } from './sealed-files.ts'
import { type SealKey, unseal } from './sealing.ts'
import { SLICES, sliceOf } from './slices.ts'
import type { StoredSnapshot } from './snapshot.ts'

const MAX_PACK_BYTES = 1024 * 1024 * 1024

export type CheckParts = {
  readonly files: SealedFiles
  readonly index: IndexStore
  readonly blobs: BlobStore
  readonly snapshots: SnapshotStore
  readonly opener: BlobOpener
}

/**
 * Index files readable → every pack of the index there, large enough → every snapshot's trees and blocks known. With `readData` also
 * every pack (or those of `slices`; for one snapshot, each of its blobs) read and verified. Memory: the index, a set of the trees seen, and the names of packs.
 */
export async function* checkRepository(parts: CheckParts, options: CheckOptions = {}): AsyncGenerator<RepositoryProblem> {
  let index: BlobIndex
  try {
    index = await parts.index.whole(options)
  } catch (error) {
    yield { what: sentence(error) }
    return
  }
  const size = options.snapshot === undefined ? yield* checkPacks(parts, index, options) : undefined
  if (options.structure === false) return
  const seen = new BlobIndex()
  seen.addPack()
  const used = new UsedBytes(index)
  let sound = true
  for await (const snapshot of listSnapshots(parts, options)) {
    if ('what' in snapshot) {
      sound = false
      yield snapshot
      continue
    }
    for await (const problem of checkSnapshot(parts, { seen, used }, snapshot, options)) {
      sound = false
      yield problem
    }
  }
  if (size === undefined) return
  const { indexedBytes, ...rest } = size
  options.onSize?.({ ...rest, unusedBytes: sound ? Math.max(0, indexedBytes - used.bytes) : undefined })
}

/** What snapshots need of an index, each blob counted once: a bit a blob. */
class UsedBytes {
  bytes = 0
  readonly #index: BlobIndex
  readonly #records: BitSet

  constructor(index: BlobIndex) {
    this.#index = index
    this.#records = new BitSet(index.count)
  }

  /** Where a blob is that is needed; undefined when it is missing. */
  use(type: typeof DATA | typeof TREE, id: Uint8Array): BlobLocation | undefined {
    const record = this.#index.numberOf(type, id)
    if (record === undefined) return undefined
    const location = this.#index.location(record)
    // What a backup adds meanwhile is behind the end of the set.
    if (record < this.#records.size && this.#records.add(record))
      this.bytes += location.length + headerEntryBytes(location.uncompressedLength)
    return location
  }
}

async function* listSnapshots(parts: CheckParts, options: CheckOptions): AsyncGenerator<StoredSnapshot | RepositoryProblem> {
  const names: string[] = []
  if (options.snapshot !== undefined) names.push(options.snapshot)
  else for await (const { name } of parts.files.backend.list('snapshot', options)) names.push(name)
  for (const name of names) {
    try {
      yield await parts.snapshots.get(name, options)
    } catch (error) {
      yield { what: sentence(error), snapshot: name }
    }
  }
}

type PackToRead = { readonly name: string; readonly size: number; readonly packs: readonly number[] }

/** Every pack that the index names is there; those of the wanted slices are read. */
async function* checkPacks(
  parts: CheckParts,
  index: BlobIndex,
  options: CheckOptions,
): AsyncGenerator<RepositoryProblem, Omit<RepositorySize, 'unusedBytes'> & { readonly indexedBytes: number }> {
  const { records, starts } = index.byPack()
  const blobsOf = (packs: readonly number[]): readonly number[] =>
    packs.flatMap((pack) => [...records.subarray(starts[pack], starts[pack + 1])])
  const numbers = new Map<string, number[]>()
  for (let pack = 0; pack < index.packCount; pack++) {
    if (starts[pack] === starts[pack + 1]) continue
    const name = index.packId(pack).toString('hex')
    const known = numbers.get(name)
    if (known === undefined) numbers.set(name, [pack])
    else known.push(pack)
  }
  const slices = options.readData === true ? (options.slices ?? Array.from({ length: SLICES }, (_, slice) => slice)) : []
  const toRead = new Map(slices.map((slice): [number, PackToRead[]] => [slice, []]))
  const structure = options.structure !== false
  let [count, bytes, unknownBytes, indexedBytes] = [0, 0, 0, 0]
  for await (const { name, size } of parts.files.backend.list('data', options)) {
    count++
    bytes += size
    const packs = numbers.get(name)
    if (packs === undefined) {
      unknownBytes += size
      continue
    }
    numbers.delete(name)
    const wanted = toRead.get(sliceOf(name))
    if (!structure && wanted === undefined) continue
    const last = blobsOf(packs).reduce((end, record) => {
      const { offset, length, uncompressedLength } = index.location(record)
      indexedBytes += length + headerEntryBytes(uncompressedLength)
      return Math.max(end, offset + length)
    }, 0)
    if (size < last + packTailBytes(0)) {
      yield { ...found(name, structure), what: `Pack ${name} has ${size} bytes; the index names blobs up to byte ${last}.` }
    } else wanted?.push({ name, size, packs })
  }
  for (const name of numbers.keys()) {
    if (structure || toRead.has(sliceOf(name))) {
      yield { ...found(name, structure), what: `Pack ${name} is missing; the index names blobs in it.` }
    }
  }
  numbers.clear()
  for (const [slice, packs] of toRead) {
    for (const { name, size, packs: known } of packs) {
      throwIfAborted(options)
      for await (const problem of checkPack(parts, index, name, size, blobsOf(known), options)) yield { ...problem, slice }
    }
    await options.onSlice?.(slice)
  }
  return { packs: count, bytes, unknownBytes, indexedBytes }
}

/** Whose problem it is: the structure's when that was looked at, which finds it every time. */
const found = (pack: string, structure: boolean) => ({ pack, slice: structure ? undefined : sliceOf(pack) })

async function* checkPack(
  parts: CheckParts,
  index: BlobIndex,
  pack: string,
  size: number,
  blobs: readonly number[],
  options: Abortable,
): AsyncGenerator<RepositoryProblem> {
  try {
    if (size > MAX_PACK_BYTES) throw new AgentError('INTEGRITY', `Pack ${pack} has ${size} bytes, more than is accepted.`)
    const bytes = await parts.files.backend.load({ kind: 'data', name: pack }, options)
    if (hash('sha256', bytes) !== pack) yield { what: `Pack ${pack} is damaged: its content does not match its name.`, pack }
    const header = readPackHeader(parts.opener.key, bytes, pack)
    const listed = new BlobIndex()
    const number = listed.addPack()
    for (let entry = 0; entry < header.count; entry++) listed.add(header.id(entry), header.place(entry), number)
    for (const record of blobs) {
      const { id, location } = index.record(record)
      const same = listed
        .findAll(location.type, id)
        .some(
          (place) => place.offset === location.offset && place.length === location.length && plainLength(place) === plainLength(location),
        )
      if (!same) yield { what: `The index and the header of pack ${pack} disagree on blob ${idHex(id)}.`, pack }
      try {
        openBlob(parts.opener, bytes.subarray(location.offset, location.offset + location.length), location, id, pack)
      } catch (error) {
        yield { what: sentence(error), pack }
      }
    }
  } catch (error) {
    yield { what: sentence(error), pack }
  }
}

/** The header at the end of a whole pack. INTEGRITY. */
export function readPackHeader(key: SealKey, bytes: Buffer, pack: string): ReturnType<typeof parsePackHeader> {
  const length = bytes.length < 4 ? 0 : bytes.readUInt32LE(bytes.length - 4)
  if (length === 0 || length > MAX_HEADER_BYTES || length > bytes.length - 4) {
    throw new AgentError('INTEGRITY', `Pack ${pack} is damaged: its header has an impossible length.`, { subject: pack })
  }
  return parsePackHeader(unseal(key, bytes.subarray(bytes.length - 4 - length, bytes.length - 4), `header of pack ${pack}`), pack)
}

async function* checkSnapshot(
  parts: CheckParts,
  { seen, used }: { readonly seen: BlobIndex; readonly used: UsedBytes },
  snapshot: StoredSnapshot,
  options: CheckOptions,
): AsyncGenerator<RepositoryProblem> {
  const left: { readonly tree: string; readonly path: string }[] = [{ tree: snapshot.tree, path: '/' }]
  const readBlobs = options.readData === true && options.snapshot !== undefined
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    throwIfAborted(options)
    const { tree, path } = next
    const treeId = idBytes(tree)
    if (!firstSight(seen, TREE, treeId)) continue
    used.use(TREE, treeId)
    try {
      for (const node of await parts.blobs.tree(tree, options)) {
        const inside = path + node.name
        if (node.subtree !== undefined) left.push({ tree: node.subtree, path: `${inside}/` })
        let size = 0
        for (const id of node.content ?? []) {
          const location = used.use(DATA, id)
          if (location === undefined) {
            yield { what: `${inside} in snapshot ${snapshot.id} needs block ${idHex(id)}, which is missing.`, snapshot: snapshot.id }
            continue
          }
          size += plainLength(location)
          if (plainLength(location) > MAX_BLOB_BYTES)
            yield { what: `Block ${idHex(id)} of ${inside} is larger than is accepted.`, snapshot: snapshot.id }
          if (readBlobs && firstSight(seen, DATA, id)) yield* checkBlob(parts, id, inside, snapshot.id, options)
        }
        if (node.type === 'file' && size !== node.size) {
          yield { what: `${inside} in snapshot ${snapshot.id} is ${node.size} bytes long, its blocks hold ${size}.`, snapshot: snapshot.id }
        }
      }
    } catch (error) {
      yield { what: `${path} in snapshot ${snapshot.id} cannot be read: ${sentence(error)}`, snapshot: snapshot.id }
    }
  }
}

async function* checkBlob(
  parts: CheckParts,
  id: Uint8Array,
  path: string,
  snapshot: string,
  options: Abortable,
): AsyncGenerator<RepositoryProblem> {
  try {
    await parts.blobs.read(id, options)
  } catch (error) {
    yield { what: `${path}: ${sentence(error)}`, snapshot }
  }
}

function firstSight(seen: BlobIndex, type: typeof DATA | typeof TREE, id: Uint8Array): boolean {
  if (seen.has(type, id)) return false
  seen.add(id, { type, offset: 0, length: 0, uncompressedLength: 0 }, 0)
  return true
}

/** What a repository can do wrong is a problem to report; everything else (a lost network, an abort) ends the check. */
function sentence(error: unknown): string {
  if (isAgentError(error, 'INTEGRITY', 'NOT_FOUND')) return error.message
  throw error
}
