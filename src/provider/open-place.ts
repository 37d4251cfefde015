import { AgentError, type RunId } from '../core/index.ts'
import { directoryBackend, type RepositoryPlace, restBackend, s3Backend, sftpBackend, type TriesDeps } from '../restic/index.ts'
import { SftpSession } from '../ssh/index.ts'
import type { RepositoryAccess } from './repository-access.ts'
import { formatResticPlace, parseResticPlace } from './restic-place.ts'

/** What reaching a repository needs beside its address; nothing for one in a directory. */
export type PlaceDeps = TriesDeps & { readonly access: RepositoryAccess }

/**
 * The place of a restic repository, by what stands after `restic:`. Nothing is connected before the first call. `run` names what is half saved.
 * CONFIG for an address that is none.
 */
export function openPlace(text: string, deps: PlaceDeps | undefined, run?: RunId): RepositoryPlace {
  const place = parseResticPlace(text)
  if (place.kind === 'directory') return directoryBackend(place.path, { run })
  const url = formatResticPlace(place)
  if (deps === undefined) throw new AgentError('INTERNAL', `Nobody here can log in to ${url}.`)
  const { access } = deps
  if (place.kind === 'rest')
    return restBackend({ ...deps, url, base: place.base, login: () => access.restLogin(place), trust: () => access.restTrust(place) })
  if (place.kind === 's3') return s3Backend({ ...deps, ...access.s3(place), ...place, url })
  const host = access.sshHost(place)
  return sftpBackend({
    ...deps,
    run,
    url,
    root: place.root,
    connect: (options) => SftpSession.open(host, deps, options),
  })
}
