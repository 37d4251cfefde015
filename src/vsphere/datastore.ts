import { type Abortable, AgentError, type DatastoreRef, type MoRef } from '../core/index.ts'
import { type ObjectProps, retrieveAll } from './property-collector.ts'
import type { Vsphere } from './vsphere.ts'

/** What `parseDatastore` needs of a Datastore. */
export const DATASTORE_PATHS: readonly string[] = Object.freeze(['name', 'summary', 'info'])

export function parseDatastore({ obj, props }: ObjectProps): DatastoreRef {
  const summary = props.get('summary')
  const info = props.get('info')
  const nas = info?.get('nas')
  const vmfs = info?.get('vmfs')
  return {
    moref: obj.value,
    name: props.get('name')?.text ?? summary?.string('name') ?? obj.value,
    type: summary?.string('type') ?? 'unknown',
    url: summary?.string('url') ?? info?.string('url') ?? '',
    capacityBytes: summary?.number('capacity') ?? 0,
    freeBytes: summary?.number('freeSpace') ?? 0,
    accessible: summary?.boolean('accessible') ?? false,
    nas:
      nas === undefined
        ? undefined
        : {
            remoteHost: nas.string('remoteHost') ?? '',
            remotePath: nas.string('remotePath') ?? '',
            remoteHosts: nas.all('remoteHostNames').map((name) => name.text),
          },
    vmfs:
      vmfs === undefined
        ? undefined
        : { uuid: vmfs.string('uuid') ?? '', extents: vmfs.all('extent').map((extent) => extent.string('diskName') ?? '') },
  }
}

/** Datastores below `container` (everything when absent). */
export async function listDatastores(vsphere: Vsphere, container?: MoRef, options?: Abortable): Promise<readonly DatastoreRef[]> {
  const found: DatastoreRef[] = []
  for await (const props of retrieveAll(vsphere, { type: 'Datastore', paths: DATASTORE_PATHS, container }, options))
    found.push(parseDatastore(props))
  return found
}

export type DatastorePath = { readonly datastore: string; readonly path: string }

/** Splits `[ds] dir/x.vmdk`; USAGE when it is none. The path has no leading slash. */
export function parseDatastorePath(text: string): DatastorePath {
  const match = /^\[([^\]]+)\]\s*(.*)$/s.exec(text)
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new AgentError('USAGE', `${JSON.stringify(text)} is not a datastore path.`, { next: 'Write it as [datastore] directory/file.' })
  }
  return { datastore: match[1], path: match[2].replace(/^\/+/, '') }
}

export const formatDatastorePath = ({ datastore, path }: DatastorePath): string =>
  path === '' ? `[${datastore}]` : `[${datastore}] ${path}`
