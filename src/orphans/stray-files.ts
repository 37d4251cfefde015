import { type Abortable, AgentError, anySignal, isAgentError } from '../core/index.ts'
import {
  type DatastoreBrowser,
  datastoreBrowsers,
  decodeName,
  type InventoryTree,
  loadInventoryTree,
  retrieveAll,
  searchDatastore,
  type Vsphere,
} from '../vsphere/index.ts'
import type { Unseen } from './marked-things.ts'
import { reasonOf } from './scan-directories.ts'

/** A file of a snapshot or of change tracking that nothing leads to. */
export type StrayFile = {
  /** `[ds] dir/file`. */
  readonly path: string
  readonly bytes: number | undefined
  /** Last written. ISO 8601. */
  readonly modified: string | undefined
  /** Inventory path of the VM whose directory it lies in. */
  readonly vm: string | undefined
  /** Written a short while ago: a snapshot being made or removed looks like this. */
  readonly recent: boolean
}

export type StrayFileSearch = { readonly files: readonly StrayFile[]; readonly unseen: readonly Unseen[] }

/** What hosts call the files of snapshots and of change tracking. The browser shows a disk as its descriptor; extents only where it has lost that. */
const PATTERNS = ['*-??????.vmdk', '*-delta.vmdk', '*-sesparse.vmdk', '*-ctk.vmdk', '*.vmsn']
const WANTED = /-(\d{6}|delta|sesparse|ctk)\.vmdk$|\.vmsn$/
/** Candidates kept in memory, over all datastores. */
const MOST_CANDIDATES = 100_000
/** Directories looked into a second time. */
const MOST_DIRECTORIES = 500
/** A datastore's search is given up after so long, ms. */
const SEARCH_MS = 10 * 60_000
const RECENT_MS = 60 * 60_000
/** VMs a page: their lists of files are long. */
const PAGE = 50

type Candidate = { readonly bytes: number | undefined; readonly modified: string | undefined }

/**
 * Files of snapshots that no VM registered here uses: one search per datastore, then one pass over the VMs' lists of files, then a second look at
 * the directories of what is left, so that a snapshot made or removed meanwhile is not taken for a remainder. Changes nothing. Memory grows with
 * the number of snapshot files, up to a limit, not with the number of VMs. Minutes on large datastores.
 */
export async function findStrayFiles(vsphere: Vsphere, options?: Abortable): Promise<StrayFileSearch> {
  const unseen: Unseen[] = []
  const candidates = new Map<string, Candidate>()
  const browsers = await datastoreBrowsers(vsphere, options)
  for (const datastore of browsers) await searchOne(vsphere, datastore, candidates, unseen, options)
  const homes = await strikeUsed(vsphere, await loadInventoryTree(vsphere, options), candidates, unseen, options)
  return { files: await lookAgain(vsphere, browsers, candidates, homes, unseen, options), unseen }
}

async function searchOne(
  vsphere: Vsphere,
  datastore: DatastoreBrowser,
  candidates: Map<string, Candidate>,
  unseen: Unseen[],
  options?: Abortable,
): Promise<void> {
  const where = `[${datastore.name}]`
  if (!datastore.accessible) return void unseen.push({ where, reason: 'it is not accessible now' })
  if (/^(vsan|vvol)/i.test(datastore.type)) {
    return void unseen.push({ where, reason: `on ${datastore.type} snapshots are objects, not files` })
  }
  try {
    const folders = await limited(vsphere, options, (limit) =>
      searchDatastore(vsphere, datastore.browser, where, { patterns: PATTERNS, below: true }, limit),
    )
    let left = 0
    for (const { path, entries } of folders) {
      for (const { path: name, size, modified, directory } of entries) {
        if (directory || !WANTED.test(name)) continue
        if (candidates.size < MOST_CANDIDATES) candidates.set(inside(path, name), { bytes: size, modified })
        else left++
      }
    }
    if (left > 0) unseen.push({ where, reason: `${left} of its snapshot files were too many to look at` })
  } catch (error) {
    if (isAgentError(error, 'CANCELED')) throw error
    unseen.push({ where, reason: reasonOf(error) })
  }
}

/** Takes off the list what a VM uses; gives the VMs whose directories the rest may lie in. */
async function strikeUsed(
  vsphere: Vsphere,
  tree: InventoryTree,
  candidates: Map<string, Candidate>,
  unseen: Unseen[],
  options?: Abortable,
): Promise<ReadonlyMap<string, string>> {
  const homes = new Map<string, string>()
  if (candidates.size === 0) return homes
  const directories = Map.groupBy(candidates.keys(), directoryOf)
  const paths = ['name', 'parent', 'parentVApp', 'config.files.vmPathName', 'layoutEx.file']
  for await (const { props } of retrieveAll(vsphere, { type: 'VirtualMachine', paths, pageSize: PAGE }, options)) {
    const home = directoryOf(props.get('config.files.vmPathName')?.text ?? '')
    const files = props.get('layoutEx.file')
    const name = tree.join(props.get('parent')?.asRef() ?? props.get('parentVApp')?.asRef(), decodeName(props.get('name')?.text ?? '?'))
    if (directories.has(home)) homes.set(home, name)
    for (const file of files?.items() ?? []) for (const used of usedBy(file.string('name') ?? '')) candidates.delete(used)
    if (files !== undefined || !directories.has(home)) continue
    // Its files are not known now, so nothing in its directory may be called left over.
    for (const path of directories.get(home) ?? []) candidates.delete(path)
    unseen.push({ where: name, reason: 'vSphere does not tell its files now' })
  }
  return homes
}

/** A file a VM lists, and what belongs to it without being listed: a descriptor's extents and its change tracking. */
function usedBy(path: string): readonly string[] {
  if (!path.endsWith('.vmdk')) return [path]
  const stem = path.slice(0, -'.vmdk'.length).replace(/-(delta|sesparse|flat|ctk|rdmp?)$/, '')
  return [path, ...['.vmdk', '-delta.vmdk', '-sesparse.vmdk', '-ctk.vmdk'].map((end) => stem + end)]
}

async function lookAgain(
  vsphere: Vsphere,
  browsers: readonly DatastoreBrowser[],
  candidates: ReadonlyMap<string, Candidate>,
  homes: ReadonlyMap<string, string>,
  unseen: Unseen[],
  options?: Abortable,
): Promise<readonly StrayFile[]> {
  const found: StrayFile[] = []
  const directories = [...Map.groupBy(candidates.keys(), directoryOf)].sort(([a], [b]) => (a < b ? -1 : 1))
  if (directories.length > MOST_DIRECTORIES) {
    unseen.push({ where: `${directories.length - MOST_DIRECTORIES} directories`, reason: 'so many hold files that nothing leads to' })
  }
  const now = vsphere.clock.now().getTime()
  for (const [directory, paths] of directories.slice(0, MOST_DIRECTORIES)) {
    const there = new Map<string, Candidate>()
    for (const { browser } of browsers.filter(({ name }) => directory.startsWith(`[${name}]`))) {
      try {
        const [folder] = await searchDatastore(vsphere, browser, directory, { patterns: PATTERNS, below: false }, options)
        for (const { path, size, modified } of folder?.entries ?? []) there.set(inside(directory, path), { bytes: size, modified })
      } catch (error) {
        // Gone meanwhile, or another datacenter's datastore of the same name.
        if (!isAgentError(error, 'NOT_FOUND')) throw error
      }
    }
    for (const path of paths.sort()) {
      const still = there.get(path)
      if (still === undefined) continue
      const written = still.modified === undefined ? Number.NaN : Date.parse(still.modified)
      found.push({ path, ...still, vm: homes.get(directory), recent: now - written < RECENT_MS })
    }
  }
  return found
}

/** `work`, canceled after `SEARCH_MS`: UNAVAILABLE then. */
async function limited<T>(vsphere: Vsphere, options: Abortable | undefined, work: (options: Abortable) => Promise<T>): Promise<T> {
  const late = new AbortController()
  const done = new AbortController()
  const timer = vsphere.clock.sleep(SEARCH_MS, { signal: done.signal }).then(
    () => late.abort(new AgentError('CANCELED', 'The search took too long.')),
    () => undefined,
  )
  try {
    return await work({ signal: anySignal(options?.signal, late.signal) })
  } catch (error) {
    if (!late.signal.aborted || options?.signal?.aborted === true) throw error
    throw new AgentError('UNAVAILABLE', `The search took longer than ${SEARCH_MS / 60_000} minutes.`, { retry: 'later', cause: error })
  } finally {
    done.abort()
    await timer
  }
}

const directoryOf = (path: string): string => {
  const slash = path.lastIndexOf('/')
  return slash < 0 ? path.slice(0, path.indexOf(']') + 1) : path.slice(0, slash)
}
const inside = (directory: string, name: string): string => (directory.endsWith(']') ? `${directory} ${name}` : `${directory}/${name}`)
