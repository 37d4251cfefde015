import { hash } from 'node:crypto'
import { type Abortable, AgentError, isAgentError, throwIfAborted } from '../core/index.ts'
import { BlobIndex } from './blob-index.ts'
import { DATA, TREE } from './blob-records.ts'
import { type BlobOpener, type BlobStore, MAX_BLOB_BYTES, openBlob, plainLength } from './blob-store.ts'
import { idBytes, idHex } from './ids.ts'
import type { IndexStore } from './index-store.ts'
import { MAX_HEADER_BYTES, packTailBytes, parsePackHeader } from './pack-header.ts'
import type { CheckOptions, RepositoryProblem, SnapshotStore } from './repository.ts'
import type { SealedFiles } from './sealed-files.ts'
import { type SealKey, unseal } from './sealing.ts'
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
 * every pack (or, for one snapshot, each of its blobs) read and verified. Memory: the index, and a set of the trees seen.
 */
export async function* checkRepository(parts: CheckParts, options: CheckOptions = {}): AsyncGenerator<RepositoryProblem> {
  let index: BlobIndex
  try {
    index = await parts.index.whole(options)
  } catch (error) {
    yield { what: sentence(error) }
    return
  }
  if (options.snapshot === undefined) yield* checkPacks(parts, index, options)
  const seen = new BlobIndex()
  seen.addPack()
  for await (const snapshot of listSnapshots(parts, options)) {
    if ('what' in snapshot) yield snapshot
    else yield* checkSnapshot(parts, index, seen, snapshot, options)
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

/** Every pack that the index names, in the order of the backend. */
async function* checkPacks(parts: CheckParts, index: BlobIndex, options: CheckOptions): AsyncGenerator<RepositoryProblem> {
  const { records, starts } = index.byPack()
  const numbers = new Map<string, number[]>()
  for (let pack = 0; pack < index.packCount; pack++) {
    if (starts[pack] === starts[pack + 1]) continue
    const name = index.packId(pack).toString('hex')
    const known = numbers.get(name)
    if (known === undefined) numbers.set(name, [pack])
    else known.push(pack)
  }
  for await (const { name, size } of parts.files.backend.list('data', options)) {
    const packs = numbers.get(name)
    if (packs === undefined) continue
    numbers.delete(name)
    const blobs = packs.flatMap((pack) => [...records.subarray(starts[pack], starts[pack + 1])])
    const last = blobs.reduce(
      (end, record) => Math.max(end, index.record(record).location.offset + index.record(record).location.length),
      0,
    )
    if (size < last + packTailBytes(0)) {
      yield { what: `Pack ${name} has ${size} bytes; the index names blobs up to byte ${last}.`, pack: name }
    } else if (options.readData === true) {
      throwIfAborted(options)
      yield* checkPack(parts, index, name, size, blobs, options)
    }
  }
  for (const name of numbers.keys()) yield { what: `Pack ${name} is missing; the index names blobs in it.`, pack: name }
}

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
  index: BlobIndex,
  seen: BlobIndex,
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
    try {
      for (const node of await parts.blobs.tree(tree, options)) {
        const inside = path + node.name
        if (node.subtree !== undefined) left.push({ tree: node.subtree, path: `${inside}/` })
        let size = 0
        for (const id of node.content ?? []) {
          const location = index.find(DATA, id)
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
