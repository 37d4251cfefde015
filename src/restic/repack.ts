import { hash } from 'node:crypto'
import { type Abortable, AgentError, isAgentError, throwIfAborted } from '../core/index.ts'
import type { Backend } from './backend.ts'
import { BlobIndex } from './blob-index.ts'
import { type BlobOpener, openBlob } from './blob-store.ts'
import { packBuffers, TreeMemory } from './pack-memory.ts'
import type { PackTable } from './pack-table.ts'
import { PackWriter } from './pack-writer.ts'
import type { PrunePlan } from './prune-plan.ts'
import type { SealedFiles } from './sealed-files.ts'
import { damaged } from './used-blobs.ts'

/** Read in one go: neighbours so near that reading what is between costs less than asking again, and so much at a time. */
const MOST_GAP = 256 * 1024
const MOST_AT_ONCE = 16 * 1024 * 1024

export type RepackParts = {
  readonly files: SealedFiles
  readonly index: BlobIndex
  readonly table: PackTable
  readonly opener: BlobOpener
  readonly random: (size: number) => Uint8Array
  readonly packSize: number
  /** Aborts when the lock is lost: then nothing more is stored. */
  readonly signal: AbortSignal | undefined
  readonly onPack?: ((bytes: number) => void) | undefined
}

/**
 * Stores the wanted blobs of the packs to be repacked again, in new packs with index files of their own: durable when it resolves, nothing is removed. Each blob is opened, so
 * that what is kept is known to be what its id says, and copied as it is: neither compressed nor encrypted again. A damaged one is taken from another
 * copy. Returns the names of the new index files. INTEGRITY when there is none.
 */
export async function repack(parts: RepackParts, { repack: rows, kept }: Pick<PrunePlan, 'repack' | 'kept'>): Promise<readonly string[]> {
  const { files, index, table, opener, random, packSize } = parts
  const made: string[] = []
  const buffers = Array.from({ length: packBuffers(files.backend) }, () => new SharedArrayBuffer(packSize))
  const writer = new PackWriter({
    files,
    index: new BlobIndex(),
    key: opener.key,
    random,
    buffers,
    trees: new TreeMemory(),
    digest: async (packs) =>
      packs.map(({ buffer, length }) => hash('sha256', Buffer.from(buffers[buffer] ?? new SharedArrayBuffer(0), 0, length), 'buffer')),
    onIndexFile: (name) => void made.push(name),
    onFailure: () => undefined,
  })
  try {
    for (const row of rows) {
      const records = [...table.records(row)].filter((record) => kept.has(record))
      for await (const { record, sealed } of readSealed(parts, row, records)) {
        throwIfAborted(parts)
        const { type, uncompressedLength } = index.location(record)
        await writer.append(type, [{ id: index.idOf(record), sealed, uncompressedLength }])
      }
      parts.onPack?.(records.reduce((sum, record) => sum + index.location(record).length, 0))
    }
    await writer.flush()
    return made
  } catch (error) {
    // What is stored already stays, unreferenced, for the next prune.
    writer.fail(error instanceof AgentError ? error : new AgentError('INTERNAL', 'Packs could not be written anew.', { cause: error }))
    await writer.idle()
    throw error
  }
}

type Sealed = { readonly record: number; readonly sealed: Buffer }

async function* readSealed(parts: RepackParts, row: number, records: readonly number[]): AsyncGenerator<Sealed> {
  const { index } = parts
  const sorted = records.toSorted((a, b) => index.location(a).offset - index.location(b).offset)
  for (const group of neighbours(index, sorted)) {
    const start = index.location(group[0] ?? 0).offset
    const end = index.location(group.at(-1) ?? 0)
    const bytes = await loadOrNothing(parts.files.backend, parts.table.name(row), start, end.offset + end.length - start, parts)
    for (const record of group) {
      const { offset, length } = index.location(record)
      const sealed = bytes?.subarray(offset - start, offset - start + length)
      yield sealed !== undefined && isSound(parts, record, sealed) ? { record, sealed } : await fromAnother(parts, record)
    }
  }
}

/** Undefined for a pack that is gone or shorter than it was listed. */
async function loadOrNothing(
  backend: Backend,
  name: string,
  offset: number,
  length: number,
  { signal }: Abortable,
): Promise<Buffer | undefined> {
  try {
    return await backend.load({ kind: 'data', name }, { signal, range: { offset, length } })
  } catch (error) {
    if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND')) throw error
    return undefined
  }
}

function isSound({ opener, index }: RepackParts, record: number, sealed: Uint8Array): boolean {
  try {
    openBlob(opener, sealed, index.location(record), index.idOf(record), 'being repacked')
    return true
  } catch (error) {
    if (!isAgentError(error, 'INTEGRITY')) throw error
    return false
  }
}

/** Another copy of the same blob, in the form it has there. */
async function fromAnother(parts: RepackParts, record: number): Promise<Sealed> {
  const { index, table, files, opener } = parts
  const id = index.idOf(record)
  let failure: unknown
  for (const copy of index.numbersOf(index.location(record).type, id)) {
    const place = index.location(copy)
    const pack = table.name(table.rowOfPack(place.pack))
    try {
      const range = { offset: place.offset, length: place.length }
      const sealed = await files.backend.load({ kind: 'data', name: pack }, { signal: parts.signal, range })
      openBlob(opener, sealed, place, id, pack)
      return { record: copy, sealed }
    } catch (error) {
      if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND')) throw error
      failure ??= error
    }
  }
  throw damaged(failure)
}

/** Runs of records of one pack that are read together. */
function* neighbours(index: BlobIndex, sorted: readonly number[]): Generator<readonly number[]> {
  let group: number[] = []
  for (const record of sorted) {
    const first = index.location(group[0] ?? record)
    const last = index.location(group.at(-1) ?? record)
    const { offset, length } = index.location(record)
    const near = offset - (last.offset + last.length) <= MOST_GAP && offset + length - first.offset <= MOST_AT_ONCE
    if (!near && group.length > 0) {
      yield group
      group = []
    }
    group.push(record)
  }
  if (group.length > 0) yield group
}
