import { statSync } from 'node:fs'
import { directoryOf, lockOf, type Model } from '../model/index.ts'

/** A file as a host's shell reaches it, or the errno with which the host refuses. */
export type HostFile =
  | { readonly ok: true; readonly datastorePath: string; readonly local: string; readonly size: number }
  | { readonly ok: false; readonly errno: number; readonly text: string }

const missing = (): HostFile => ({ ok: false, errno: 2, text: 'No such file or directory' })

/**
 * What `/vmfs/volumes/NAME-OR-UUID/dir/file` is on this host. Nothing outside the datastores it sees exists. A file that a running VM writes to is
 * busy, as on VMFS; writing wants the file for itself, a `look` at its size nothing.
 */
export async function hostFile(model: Model, host: string, path: string, access: 'look' | 'read' | 'write'): Promise<HostFile> {
  const [, volume, rest] = /^\/vmfs\/volumes\/([^/]+)\/(.+)$/s.exec(path) ?? []
  const store = model.world
    .of('datastore')
    .find((candidate) => candidate.hosts.includes(host) && (candidate.name === volume || candidate.uuid === volume))
  if (store === undefined || rest === undefined || rest.split('/').includes('..') || rest.includes('\0')) return missing()
  const datastorePath = `[${store.name}] ${rest}`
  const owner = model.world.vmInDirectory(directoryOf(datastorePath))
  if (owner !== undefined) await model.ensure(owner)
  const local = model.files.local(datastorePath)
  const found = statSync(local, { throwIfNoEntry: false })
  if (found === undefined) return missing()
  if (!found.isFile()) return { ok: false, errno: 21, text: 'Is a directory' }
  if (access === 'look') return { ok: true, datastorePath, local, size: found.size }
  const lock = lockOf(model, datastorePath)
  const held = owner !== undefined && model.rules.strike({ names: model.names(owner) }, 'lockHeld').length > 0
  if (held || lock?.mode === 'exclusive' || (access === 'write' && lock !== undefined))
    return { ok: false, errno: 16, text: 'Device or resource busy' }
  return { ok: true, datastorePath, local, size: found.size }
}
