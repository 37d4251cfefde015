import { type Abortable, type ClaimId, isAgentError, toAgentError } from '../core/index.ts'
import {
  type DatastoreBrowser,
  datastoreBrowsers,
  type InventoryTree,
  openDatastoreFiles,
  searchDatastore,
  type Vsphere,
} from '../vsphere/index.ts'
import type { MarkedObject, MarkScan, Unseen } from './marked-things.ts'
import { parseRestoreMarker, RESTORE_MARKER, RESTORE_MARKER_LIMIT } from './restore-marker.ts'

/** `name-CLAIM`, where a restore by datastore files puts a VM: always at the top of its datastore. */
const RESTORE_DIRECTORY = /^.+-([0-9a-f]{24})$/
const RESTORE_PATTERN = `*-${'?'.repeat(24)}`
/** No crash leaves so many; a datastore with more names like ours is looked at only so far. */
const MOST_DIRECTORIES = 500

/**
 * The part of `findMarked` that datastores tell: directories of restores by datastore files that were not finished. A restored VM that has become
 * its user's keeps the directory's name but not the marker in it.
 */
export async function scanDirectories(
  vsphere: Vsphere,
  tree: InventoryTree,
  options?: Abortable,
): Promise<Pick<MarkScan, 'marked' | 'unseen'>> {
  const marked: MarkedObject[] = []
  const unseen: Unseen[] = []
  for (const datastore of await datastoreBrowsers(vsphere, options)) {
    try {
      for await (const one of restoresOn(vsphere, tree, datastore, unseen, options)) marked.push(one)
    } catch (error) {
      if (isAgentError(error, 'CANCELED')) throw error
      unseen.push({ where: `[${datastore.name}]`, reason: reasonOf(error) })
    }
  }
  return { marked, unseen }
}

async function* restoresOn(
  vsphere: Vsphere,
  tree: InventoryTree,
  datastore: DatastoreBrowser,
  unseen: Unseen[],
  options?: Abortable,
): AsyncGenerator<MarkedObject> {
  const datacenter = tree.datacenterOf(datastore.parent)
  if (!datastore.accessible || datacenter === undefined) {
    unseen.push({ where: `[${datastore.name}]`, reason: 'it is not accessible now' })
    return
  }
  const root = `[${datastore.name}]`
  const [top] = await searchDatastore(vsphere, datastore.browser, root, { patterns: [RESTORE_PATTERN], below: false }, options)
  const candidates = (top?.entries ?? []).filter((entry) => entry.directory && RESTORE_DIRECTORY.test(entry.path))
  if (candidates.length > MOST_DIRECTORIES) {
    unseen.push({
      where: root,
      reason: `${candidates.length - MOST_DIRECTORIES} of its directories named like a restore's were not looked into`,
    })
  }
  const files = openDatastoreFiles(vsphere, datacenter)
  for (const { path: name, modified } of candidates.slice(0, MOST_DIRECTORIES)) {
    const claim = RESTORE_DIRECTORY.exec(name)?.[1] as ClaimId
    const path = `${root} ${name}`
    const base = {
      claim,
      name,
      path,
      bytes: undefined,
      doubt: undefined,
      what: { kind: 'directory', datacenter: datacenter.moref.value, path },
    } as const
    try {
      const mark = parseRestoreMarker(await files.readSmall(`${path}/${RESTORE_MARKER}`, RESTORE_MARKER_LIMIT, options))
      yield { ...base, mark: mark?.claim === claim ? mark : undefined, since: mark?.time ?? modified }
    } catch (error) {
      if (isAgentError(error, 'INTEGRITY')) yield { ...base, mark: undefined, since: modified }
      else if (!isAgentError(error, 'NOT_FOUND')) throw error
      // Without a marker it is a VM that was restored, unless nothing at all is in it: killed between making the directory and the marker.
      else if (await isEmpty(vsphere, datastore, path, options)) yield { ...base, mark: undefined, since: modified }
    }
  }
}

async function isEmpty(vsphere: Vsphere, datastore: DatastoreBrowser, path: string, options?: Abortable): Promise<boolean> {
  const folders = await searchDatastore(vsphere, datastore.browser, path, { patterns: ['*'], below: false }, options)
  return folders.every(({ entries }) => entries.length === 0)
}

/** A clause for `Unseen`. */
export const reasonOf = (error: unknown): string => toAgentError(error).message.replace(/\.$/, '')
