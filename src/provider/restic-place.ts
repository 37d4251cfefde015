import { AgentError } from '../core/index.ts'
import { formatS3Place, parseS3Place, type S3Place } from './s3-place.ts'

/** Where a restic repository lies. */
export type ResticPlace = { readonly kind: 'directory'; readonly path: string } | SftpPlace | RestPlace | S3Place

/** `user` undefined = whoever runs vcb, as ssh has it; `root` relative to that user's home where it does not begin with a slash. */
export type SftpPlace = {
  readonly kind: 'sftp'
  readonly user: string | undefined
  readonly host: string
  readonly port: number
  readonly root: string
}

/** `base` ends in a slash and holds no login; `user` where the address names one. */
export type RestPlace = { readonly kind: 'rest'; readonly base: string; readonly user: string | undefined }

/** What restic itself knows besides. */
const OTHERS = /^(b2|azure|gs|swift|rclone):/u

/**
 * What the part after `restic:` means, in the forms that restic takes: a path, `sftp:user@host:path`, `sftp://user@host:port/path`,
 * `rest:https://user@host:port/path/`, `s3:https://host/bucket/prefix`. CONFIG, without a password that was written into it by mistake.
 */
export function parseResticPlace(text: string): ResticPlace {
  const other = OTHERS.exec(text)?.[1]
  if (other !== undefined) {
    throw new AgentError('CONFIG', `Repositories of the kind ${other} are not known to vcb itself.`, {
      next: 'Use restic-binary:REPOSITORY, which goes through the stock restic.',
    })
  }
  if (text.startsWith('sftp:')) return sftpPlace(text)
  if (text.startsWith('rest:')) return restPlace(text)
  if (text.startsWith('s3:')) return parseS3Place(text)
  return { kind: 'directory', path: text }
}

/** The same place always in the same words, as restic understands them; without secrets. A directory as it was written. */
export function formatResticPlace(place: ResticPlace): string {
  if (place.kind === 'directory') return place.path
  if (place.kind === 's3') return formatS3Place(place)
  if (place.kind === 'rest')
    return `rest:${place.base.replace('://', `://${place.user === undefined ? '' : `${encodeURIComponent(place.user)}@`}`)}`
  const { user, host, port, root } = place
  const login = user === undefined ? '' : `${encodeURIComponent(user)}@`
  // The short form would be taken for something else.
  const long = port !== SSH_PORT || host.includes(':') || user?.includes(':') === true || root.includes('@')
  if (!long) return `sftp:${user === undefined ? '' : `${user}@`}${host}:${root}`
  return `sftp://${login}${host.includes(':') ? `[${host}]` : host}${port === SSH_PORT ? '' : `:${port}`}/${root.split('/').map(encodeURIComponent).join('/')}`
}

const SSH_PORT = 22

function sftpPlace(text: string): SftpPlace {
  if (text.startsWith('sftp://')) {
    const url = URL.parse(text)
    if (url !== null && url.password !== '') throw passwordInside('sftp')
    // URLs resolve `..` by rules of their own, which are not restic's.
    const up = /\/(?:[.]|%2e){2}(?:\/|$)/iu.test(text)
    if (url === null || url.hostname === '' || url.search !== '' || url.hash !== '' || up) throw notSftp(text)
    const user = url.username === '' ? undefined : decode(url.username, text)
    const host = url.hostname.replaceAll(/[[\]]/gu, '')
    return checked({
      kind: 'sftp',
      user,
      host,
      port: url.port === '' ? SSH_PORT : Number(url.port),
      root: decode(url.pathname.slice(1), text),
    })
  }
  // Strictly a host and a path with @ and a colon in it; nobody means that.
  if (/^sftp:[^/:]*:[^/]*@[^/]*:/u.test(text)) throw passwordInside('sftp')
  // A user may hold an @ (user@domain@host); the first colon after the host begins the path.
  const [, user, host = '', root = ''] = /^sftp:(?:([^:]*)@)?([^:@/]+):(.*)$/su.exec(text) ?? []
  if (host === '') throw notSftp(text)
  return checked({ kind: 'sftp', user: user === '' ? undefined : user, host, port: SSH_PORT, root })
}

function restPlace(text: string): RestPlace {
  const url = URL.parse(text.slice('rest:'.length))
  if (url !== null && url.password !== '') throw passwordInside('rest')
  if (url === null || !/^https?:$/u.test(url.protocol) || url.search !== '' || url.hash !== '') {
    throw new AgentError('CONFIG', `${JSON.stringify(withoutLogin(text))} names no REST server.`, {
      next: 'Write rest:https://HOST:PORT/PATH/.',
    })
  }
  const base = `${url.origin}${url.pathname.replace(/\/*$/u, '/')}`
  return { kind: 'rest', base, user: url.username === '' ? undefined : decode(url.username, text) }
}

function checked(place: SftpPlace): SftpPlace {
  const root = tidy(place.root)
  if (root === '' || root === '/' || /^[.][.](?:\/|$)/u.test(root) || root.includes('\0')) throw notSftp(`sftp:${place.host}:`)
  if (root.startsWith('~')) {
    throw new AgentError('CONFIG', `The path ${root} on ${place.host} begins with ~, which SFTP servers do not know.`, {
      next: 'Write it without ~/: a path that does not begin with a slash is in the home of the user.',
    })
  }
  return { ...place, root }
}

/** As Go's path.Clean: no empty names, no `.`, `..` resolved. */
function tidy(path: string): string {
  const names: string[] = []
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue
    if (name === '..' && names.length > 0 && names.at(-1) !== '..') names.pop()
    else if (name !== '..' || !path.startsWith('/')) names.push(name)
  }
  return `${path.startsWith('/') ? '/' : ''}${names.join('/')}`
}

function decode(text: string, whole: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw notSftp(whole)
  }
}

/** An address that is none, to be shown: what may be a password in it is not. */
export const withoutLogin = (text: string): string =>
  text.replace(/^([a-z][a-z0-9+-]*:(?:[a-z0-9+]+:)?(?:\/\/)?).*@/su, '$1***@').slice(0, 200)

const notSftp = (text: string): AgentError =>
  new AgentError('CONFIG', `${JSON.stringify(withoutLogin(text))} names no place on an SFTP server.`, {
    next: 'Write sftp:USER@HOST:/PATH, or sftp://USER@HOST:PORT//PATH.',
  })

const passwordInside = (kind: string): AgentError =>
  new AgentError('CONFIG', `The address of the ${kind} repository holds a password.`, {
    next: 'Take it out, and give it by file or environment (docs/repositories.md).',
  })
