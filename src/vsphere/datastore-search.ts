import type { Abortable, MoRef } from '../core/index.ts'
import { decodeName } from './inventory-tree.ts'
import { retrieveAll } from './property-collector.ts'
import { runTask, type TaskOptions } from './task.ts'
import { data } from './vim-data.ts'
import type { VimNode } from './vim-node.ts'
import type { Vsphere } from './vsphere.ts'

/** A file or directory in a datastore directory. `path` is its name there. */
export type DatastoreEntry = {
  readonly path: string
  /** Bytes; undefined for directories. */
  readonly size: number | undefined
  /** ISO 8601 */
  readonly modified: string | undefined
  readonly directory: boolean
}

/** One directory of a search. */
export type DatastoreFolder = {
  /** `[ds] dir`, without a slash at its end. */
  readonly path: string
  readonly entries: readonly DatastoreEntry[]
}

/**
 * What lies in `[ds] dir` and, with `below`, in every directory under it, as the datastore's browser shows it: a disk as its descriptor only, its
 * extents are hidden. One task, whose whole answer comes at once, so give patterns (`*` and `?`) that few names match. NOT_FOUND, AUTH.
 */
export async function searchDatastore(
  vsphere: Vsphere,
  browser: MoRef,
  directory: string,
  search: { readonly patterns: readonly string[]; readonly below: boolean },
  options?: TaskOptions,
): Promise<readonly DatastoreFolder[]> {
  const details = data({ fileType: true, fileSize: true, modification: true, fileOwner: false })
  const found = await runTask(
    vsphere,
    search.below ? 'SearchDatastoreSubFolders_Task' : 'SearchDatastore_Task',
    browser,
    { datastorePath: directory, searchSpec: data({ details, matchPattern: search.patterns }) },
    options,
  )
  const folders = search.below ? (found?.items() ?? []) : found === undefined ? [] : [found]
  return folders.map((folder) => ({
    path: (folder.string('folderPath') ?? directory).replace(/\/+$/, ''),
    entries: folder.all('file').map(parseEntry),
  }))
}

function parseEntry(file: VimNode): DatastoreEntry {
  const directory = file.type === 'FolderFileInfo'
  return {
    path: file.string('path') ?? '',
    size: directory ? undefined : file.number('fileSize'),
    modified: file.string('modification'),
    directory,
  }
}

/** A datastore as far as a search needs it. */
export type DatastoreBrowser = {
  readonly name: string
  /** summary.type: VMFS, NFS, vsan, … */
  readonly type: string
  readonly browser: MoRef
  readonly parent: MoRef | undefined
  readonly accessible: boolean
}

/** Every datastore that can be browsed, in one pass. */
export async function datastoreBrowsers(vsphere: Vsphere, options?: Abortable): Promise<readonly DatastoreBrowser[]> {
  const found: DatastoreBrowser[] = []
  const paths = ['name', 'browser', 'parent', 'summary.accessible', 'summary.type']
  for await (const { props } of retrieveAll(vsphere, { type: 'Datastore', paths }, options)) {
    const browser = props.get('browser')?.asRef()
    if (browser === undefined) continue
    const name = decodeName(props.get('name')?.text ?? '')
    const type = props.get('summary.type')?.text ?? 'unknown'
    found.push({ name, type, browser, parent: props.get('parent')?.asRef(), accessible: props.get('summary.accessible')?.text === 'true' })
  }
  return found
}
