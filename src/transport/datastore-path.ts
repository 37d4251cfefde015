import { AgentError, type DatastoreRef } from '../core/index.ts'
import { type DatastorePath, formatDatastorePath, parseDatastorePath } from '../vsphere/index.ts'

/** A datastore path that stays inside its datastore. Errors: INTEGRITY when it climbs with `..`, USAGE when it is no datastore path. */
export function insideDatastore(text: string): DatastorePath {
  const path = parseDatastorePath(text)
  if (path.path.startsWith('/') || path.path.split('/').includes('..') || path.path.includes('\0')) {
    throw new AgentError('INTEGRITY', `The datastore path "${text}" leaves its datastore.`, { subject: text })
  }
  return path
}

/**
 * The datastore path meant by a reference written in a descriptor at `from` (a datastore path): a plain name is beside it;
 * `/vmfs/volumes/<uuid or label>/dir/file` names the datastore by its url's last part or by its name; `[ds] path` is itself.
 * Errors: INTEGRITY when it leaves every known datastore.
 */
export function resolveReference(reference: string, from: string | undefined, datastores: readonly DatastoreRef[]): string {
  if (reference.startsWith('[')) return formatDatastorePath(insideDatastore(reference))
  const volume = /^\/vmfs\/volumes\/([^/]+)\/(.+)$/s.exec(reference)
  if (volume !== null) {
    const [, label = '', path = ''] = volume
    const datastore = datastores.find((each) => each.name === label || volumeOf(each) === label)
    if (datastore === undefined) {
      throw new AgentError('INTEGRITY', `The parent "${reference}" lies on a volume that is none of the VM's datastores.`, {
        subject: reference,
      })
    }
    return formatDatastorePath(insideDatastore(`[${datastore.name}] ${path}`))
  }
  if (from === undefined || reference.startsWith('/')) {
    throw new AgentError('INTEGRITY', `The file "${reference}" cannot be placed on a datastore.`, { subject: reference })
  }
  const base = insideDatastore(from)
  const directory = base.path.includes('/') ? base.path.slice(0, base.path.lastIndexOf('/') + 1) : ''
  return formatDatastorePath(insideDatastore(`[${base.datastore}] ${directory}${reference}`))
}

/** The volume part of `ds:///vmfs/volumes/UUID/`. */
function volumeOf(datastore: DatastoreRef): string | undefined {
  return /\/vmfs\/volumes\/([^/]+)\/?$/.exec(datastore.url)?.[1]
}
