import { invalidDatastorePath } from './faults.ts'

/** `[name] dir/file` taken apart. `path` is relative to the datastore's root, `/`-separated, without `.`, `..` or empty parts. */
export type DatastorePath = { readonly datastore: string; readonly path: string }

/** Parses a datastore path. Fault InvalidDatastorePath for anything that is none or would leave the datastore. */
export function parseDatastorePath(text: string): DatastorePath {
  const match = /^\[([^\]]+)\] ?(.*)$/s.exec(text)
  if (match?.[1] === undefined || match[2] === undefined || text.includes('\0')) throw invalidDatastorePath(text)
  const parts = match[2].split('/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..')) throw invalidDatastorePath(text)
  return { datastore: match[1], path: parts.join('/') }
}

export const formatDatastorePath = (path: DatastorePath): string =>
  path.path === '' ? `[${path.datastore}]` : `[${path.datastore}] ${path.path}`

/** The directory a path's file lies in. */
export function directoryOf(text: string): string {
  const { datastore, path } = parseDatastorePath(text)
  return formatDatastorePath({ datastore, path: path.split('/').slice(0, -1).join('/') })
}

export const baseName = (text: string): string => parseDatastorePath(text).path.split('/').at(-1) ?? ''

/** A path inside a directory given as datastore path. */
export function within(directory: string, name: string): string {
  const { datastore, path } = parseDatastorePath(directory)
  return formatDatastorePath({ datastore, path: path === '' ? name : `${path}/${name}` })
}
