import { LabStorageError } from './storage-error.ts'

export type DatastorePath = { readonly datastore: string; readonly path: string }

/** `[ds] dir/x.vmdk` into its parts; path is '' for `[ds]`. InvalidDatastorePath. */
export function parseDatastorePath(text: string): DatastorePath {
  const found = /^\s*\[([^\]]+)\]\s*(.*?)\s*$/s.exec(text)
  const [, datastore, path] = found ?? []
  if (datastore === undefined || path === undefined) {
    throw new LabStorageError('InvalidDatastorePath', `"${text}" is not a datastore path of the form "[datastore] path".`, text)
  }
  return { datastore, path: path.replace(/\/+$/, '') }
}

export function formatDatastorePath(datastore: string, path: string): string {
  return path === '' ? `[${datastore}]` : `[${datastore}] ${path}`
}

/** Joins a file name onto the directory of a datastore-relative path. */
export function besidePath(path: string, name: string): string {
  const slash = path.lastIndexOf('/')
  return slash < 0 ? name : `${path.slice(0, slash + 1)}${name}`
}

export const directoryOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')))
export const fileOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1)
