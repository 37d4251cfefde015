import { setImmediate } from 'node:timers/promises'
import { type Abortable, MIB, SECTOR, throwIfAborted } from '../../core/index.ts'
import type { Datastore } from './datastore.ts'
import { fileOf, besidePath } from './datastore-path.ts'
import { readDescriptor, withCid, writeDescriptor } from './descriptor.ts'
import { childrenOf, diskInfo } from './disk-info.ts'
import type { OpenLink } from './lab-disk.ts'
import { LabStorageError } from './storage-error.ts'

export type CommitOptions = Abortable & {
  readonly persist?: ((newTop: string) => void | Promise<void>) | undefined
  /** 0–1, after each step. */
  readonly onProgress?: ((done: number) => void) | undefined
  /** Awaited between steps; a slow lab sleeps here. */
  readonly pause?: (() => Promise<void>) | undefined
}

/** What a commit needs of the disk it works on. */
export interface CommitTarget {
  readonly datastore: Datastore
  readonly size: number
  /** Throws when the disk was closed meanwhile. */
  checkOpen(): void
  writeLevel(level: number, offset: number, data: Uint8Array): void
  zeroLevel(level: number, range: { readonly offset: number; readonly length: number }): void
}

const STEP_BYTES = 4 * MIB
const STEP_RUNS = 512

/**
 * Brings everything of link `index` into the link below. Nothing leaves the upper one, so the view through it stays the same all the time
 * and a kill anywhere loses nothing. Then: the parent takes the link's CID, and its children continue the parent.
 *
 * Between two of these descriptor writes the link's own parentCID does not match; `diskChain` knows that picture.
 * Returns the parent, now in the link's place.
 */
export async function commitLink(disk: CommitTarget, links: readonly OpenLink[], index: number, options: CommitOptions): Promise<OpenLink> {
  const upper = links[index]
  const lower = links[index + 1]
  if (upper === undefined || lower === undefined) {
    const subject = disk.datastore.datastorePath(links[index]?.path ?? '')
    throw new LabStorageError('InvalidDisk', `${subject} is a base disk; there is nothing to commit it into.`, subject)
  }
  const { datastore } = disk
  const others = childrenOf(datastore, lower.path).filter((path) => path !== upper.path)
  if (others.length > 0) {
    const subject = datastore.datastorePath(lower.path)
    throw new LabStorageError('FileLocked', `${subject} is also continued by ${others.join(', ')} and must not change.`, subject)
  }
  await copyDown(disk, upper, index, options)
  disk.checkOpen()
  lower.link.flush()
  upper.link.flush()
  const from = readDescriptor(datastore, upper.path)
  const into = readDescriptor(datastore, lower.path)
  writeDescriptor(datastore, lower.path, withCid(into, from.cid, from.ddb.get('ddb.longContentID') ?? from.cid.padStart(32, '0')))
  writeDescriptor(datastore, upper.path, { ...from, parentCid: from.cid })
  for (const child of childrenOf(datastore, upper.path)) {
    const descriptor = readDescriptor(datastore, child)
    const beside = besidePath(child, fileOf(lower.path)) === lower.path
    const parentHint = beside ? fileOf(lower.path) : `/vmfs/volumes/${datastore.name}/${lower.path}`
    writeDescriptor(datastore, child, { ...descriptor, parentHint })
  }
  if (index === 0) await options.persist?.(lower.path)
  upper.link.close()
  return { ...lower, info: diskInfo(datastore, lower.path) }
}

async function copyDown(disk: CommitTarget, upper: OpenLink, index: number, options: CommitOptions): Promise<void> {
  const buffer = new Uint8Array(MIB)
  let cursor = 0
  while (cursor < disk.size) {
    throwIfAborted(options)
    disk.checkOpen()
    let bytes = 0
    let runs = 0
    // The table may have changed since the last step, so each step looks again from where it stands.
    for (const run of upper.link.runs(cursor, disk.size - cursor, true)) {
      const length = run.kind === 'data' ? Math.min(run.length, STEP_BYTES - bytes) : run.length
      if (run.kind === 'data') {
        for (let done = 0; done < length; done += buffer.length) {
          const piece = buffer.subarray(0, Math.min(buffer.length, length - done))
          upper.link.readAt(run.at + done, piece)
          disk.writeLevel(index + 1, run.offset + done, piece)
        }
        bytes += length
      } else if (run.kind === 'zero') {
        disk.zeroLevel(index + 1, { offset: run.offset, length: Math.ceil(length / SECTOR) * SECTOR })
      }
      cursor = run.offset + length
      if (++runs >= STEP_RUNS || bytes >= STEP_BYTES) break
    }
    options.onProgress?.(cursor / disk.size)
    await (options.pause?.() ?? setImmediate())
  }
}
