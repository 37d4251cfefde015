import { AgentError } from '../core/index.ts'

/** What a `--repo` value means. A single letter before the colon is no scheme, and a path may hold colons: only known schemes count. */
export function parseProviderUrl(url: string): { readonly scheme: 'restic' | 'tar' | 'dir' | 'vcb' | 'command'; readonly path: string } {
  const [, scheme, rest] = /^(restic|tar|dir|vcb|command):(.*)$/su.exec(url) ?? []
  if (scheme === undefined && /^[a-z][a-z0-9+-]{1,15}:/u.test(url)) {
    throw new AgentError('CONFIG', `The repository ${url} has an unknown kind.`, {
      subject: url,
      next: 'Use a path, restic:PATH, tar:PATH, tar:-, dir:PATH or command:PROGRAM.',
    })
  }
  const path = rest ?? url
  if (path === '' || path.includes('\0')) throw new AgentError('CONFIG', `The repository "${url}" names no path.`, { subject: url })
  return { scheme: scheme === 'tar' || scheme === 'dir' || scheme === 'vcb' || scheme === 'command' ? scheme : 'restic', path }
}
