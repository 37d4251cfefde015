import { type Abortable, AgentError, isAgentError, throwIfAborted } from '../core/index.ts'
import { BitSet } from './bit-set.ts'
import type { BlobIndex } from './blob-index.ts'
import { type BlobType, DATA, TREE } from './blob-records.ts'
import type { BlobStore } from './blob-store.ts'
import { idBytes, idHex } from './ids.ts'
import type { StoredSnapshot } from './snapshot.ts'

/** Trees read at once: each waits for a far server most of the time. */
const LANES = 4

export type UsedBlobs = {
  /** Of each blob that a snapshot needs, the number of its first record. */
  readonly records: BitSet
  readonly snapshots: readonly string[]
}

/**
 * Walks the trees of every snapshot. A tree met before is not read again, so the work is that of all different trees; memory is a bit a blob, the trees
 * still to be read (a number each), and a few trees. INTEGRITY when a snapshot, a tree or a block is missing or damaged: nothing may be removed then.
 */
export async function findUsedBlobs(
  { index, blobs, snapshots }: { readonly index: BlobIndex; readonly blobs: BlobStore; readonly snapshots: AsyncIterable<StoredSnapshot> },
  options?: Abortable,
): Promise<UsedBlobs> {
  const records = new BitSet(index.count)
  const names: string[] = []
  const left: number[] = []
  const use = (type: BlobType, id: Uint8Array, by: string): void => {
    const record = index.numberOf(type, id)
    if (record === undefined) throw missing(type, id, by)
    if (records.add(record) && type === TREE) left.push(record)
  }
  const readTree = async (record: number): Promise<void> => {
    const tree = idHex(index.idOf(record))
    for (const node of await blobs.tree(tree, options)) {
      if (node.subtree !== undefined) use(TREE, idBytes(node.subtree), `tree ${tree}`)
      for (const id of node.content ?? []) use(DATA, id, `tree ${tree}`)
    }
  }
  for await (const { id, tree } of snapshots) {
    names.push(id)
    use(TREE, idBytes(tree), `snapshot ${id}`)
  }
  while (left.length > 0) {
    throwIfAborted(options)
    // Together, and all of them ended before the next: a lane that failed is not left reading.
    const read = await Promise.allSettled(left.splice(-LANES).map(readTree))
    const failed = read.find((each) => each.status === 'rejected')
    if (failed !== undefined) throw damaged(failed.reason)
  }
  return { records, snapshots: names }
}

const missing = (type: BlobType, id: Uint8Array, by: string): AgentError =>
  damaged(new AgentError('INTEGRITY', `The ${type === TREE ? 'tree' : 'block'} ${idHex(id)} that ${by} needs is in no index file.`))

/** What is damaged is not made worse. */
export function damaged(error: unknown): AgentError {
  if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND')) throw error
  return new AgentError('INTEGRITY', `Nothing was removed, because the repository is damaged: ${error.message}`, {
    subject: error.subject,
    next: 'Run "vcb check"; forget the restore points that it names, or repair the index ("restic repair index"), and prune again.',
    cause: error,
  })
}
