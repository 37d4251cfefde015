import { AgentError } from '../core/index.ts'
import type { FileKind, FileRef } from './backend.ts'
import { isHexId } from './ids.ts'

/** Folders of a repository, as restic names them everywhere: in a directory, over SFTP, in a bucket, on a REST server. */
export const FOLDERS: Readonly<Record<Exclude<FileKind, 'config'>, string>> = Object.freeze({
  data: 'data',
  index: 'index',
  key: 'keys',
  lock: 'locks',
  snapshot: 'snapshots',
})

/**
 * Where a file lies below the root, its names joined by slashes: packs in `data/<first two digits>/`, or `flat` all in `data/`, as a REST server
 * is asked for them. USAGE for a name that is no id.
 */
export function layoutPath(file: FileRef, layout: 'folders' | 'flat' = 'folders'): string {
  if (file.kind === 'config') return 'config'
  if (!isHexId(file.name)) throw new AgentError('USAGE', `${JSON.stringify(file.name)} is not the name of a repository file.`)
  const folder = FOLDERS[file.kind]
  return file.kind === 'data' && layout === 'folders' ? `${folder}/${file.name.slice(0, 2)}/${file.name}` : `${folder}/${file.name}`
}
