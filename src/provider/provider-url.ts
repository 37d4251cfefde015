import { AgentError } from '../core/index.ts'
import { formatResticPlace, parseResticPlace, withoutLogin } from './restic-place.ts'

const SCHEMES = ['restic', 'tar', 'dir', 'vcb', 'command', 'borg', 'restic-binary', 'tape'] as const
type Scheme = (typeof SCHEMES)[number]
/** Kinds of restic repositories that may stand without `restic:` before them, as restic itself writes them. */
const RESTIC_KINDS = /^(?:sftp|rest|s3):/u

/** A restic repository that vcb itself writes: it has a password, and can be made. */
export const isOwnRepository = (url: string): boolean => parseProviderUrl(url).scheme === 'restic'

export const isProduct = (scheme: Scheme): scheme is 'borg' | 'restic-binary' => scheme === 'borg' || scheme === 'restic-binary'

/** A repository of a backup product, which may be protected by a password of its own. */
export const keptByProduct = (url: string): boolean => isProduct(parseProviderUrl(url).scheme)

/** What a `--repo` value means. A single letter before the colon is no scheme, and a path may hold colons: only known schemes count. */
export function parseProviderUrl(url: string): { readonly scheme: Scheme; readonly path: string } {
  if (RESTIC_KINDS.test(url)) return resticUrl(url)
  const scheme = SCHEMES.find((name) => url.startsWith(`${name}:`))
  if (scheme === undefined && /^[a-z][a-z0-9+-]{1,15}:/u.test(url)) {
    const shown = withoutLogin(url)
    throw new AgentError('CONFIG', `The repository ${shown} has an unknown kind.`, {
      subject: shown,
      next: 'Use a path, restic:PATH, sftp:USER@HOST:/PATH, rest:https://HOST/PATH/, s3:https://HOST/BUCKET, tar:PATH, tar:-, dir:PATH, command:PROGRAM, tape:DIR, borg:REPOSITORY or restic-binary:REPOSITORY.',
    })
  }
  const path = scheme === undefined ? url : url.slice(scheme.length + 1)
  if (path === '' || path.includes('\0')) throw new AgentError('CONFIG', `The repository "${url}" names no path.`, { subject: url })
  return scheme === undefined || scheme === 'restic' ? resticUrl(path) : { scheme, path }
}

/** A place on a server always in the same words. */
const resticUrl = (text: string): { readonly scheme: 'restic'; readonly path: string } => ({
  scheme: 'restic',
  path: formatResticPlace(parseResticPlace(text)),
})

/** Whether two addresses mean one destination; of directories only when they are written alike. */
export function sameDestination(one: string, other: string): boolean {
  const [a, b] = [parseProviderUrl(one), parseProviderUrl(other)]
  return a.scheme === b.scheme && a.path === b.path
}
