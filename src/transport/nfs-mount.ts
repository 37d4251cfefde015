import { isIP } from 'node:net'
import { lookup } from 'node:dns/promises'
import { join } from 'node:path'
import type { DatastoreRef } from '../core/index.ts'
import { below, type MountedFileSystem } from './mount-info.ts'

/** The addresses of a host name; none when it is not known. Never throws. */
export type HostLookup = (host: string) => Promise<readonly string[]>

export const lookupHost: HostLookup = async (host) => {
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address)
  } catch {
    return []
  }
}

/** How sure the path of a mount is the path of the export: both the same, a directory of what is mounted, or equal but for the root that the server's
 * NFSv4 shows in front of it. */
const RANKS = ['exact', 'within', 'pseudo'] as const
export type NfsMatch = { readonly directory: string; readonly export: string; readonly how: (typeof RANKS)[number] }

/**
 * The directories where an NFS datastore's export is mounted on this machine, the surest first: matched by server and exported path, never by the
 * datastore's name. Servers are the same when they are named alike or have an address in common (aliases, several addresses, IPv6 as it may be written).
 */
export async function nfsMatches(
  { nas }: DatastoreRef,
  mounts: readonly MountedFileSystem[],
  look: HostLookup = lookupHost,
): Promise<readonly NfsMatch[]> {
  if (nas === undefined) return []
  const found: NfsMatch[] = []
  for (const mount of mounts) {
    if (mount.type !== 'nfs' && mount.type !== 'nfs4') continue
    const { host, path } = splitSource(mount)
    const match = samePath(plainPath(nas.remotePath), path, mount)
    if (match === undefined || !(await sameServer([nas.remoteHost, ...(nas.remoteHosts ?? [])], host, mount, look))) continue
    found.push({ ...match, export: mount.source })
  }
  return found.sort((one, other) => RANKS.indexOf(one.how) - RANKS.indexOf(other.how))
}

function samePath(wanted: string, mounted: string, { type, mountPoint }: MountedFileSystem): Omit<NfsMatch, 'export'> | undefined {
  const rest = below(wanted, mounted)
  if (rest === '') return { directory: mountPoint, how: 'exact' }
  if (rest !== undefined && mounted !== '/') return { directory: join(mountPoint, rest), how: 'within' }
  if (type !== 'nfs4') return undefined
  // An NFSv4 server may show its exports below a root of its own: /vols/one here, /export/vols/one to NFSv3.
  if (mounted === '/') return { directory: join(mountPoint, wanted), how: 'pseudo' }
  return wanted.endsWith(mounted) || (mounted.endsWith(wanted) && wanted !== '/') ? { directory: mountPoint, how: 'pseudo' } : undefined
}

/** `server:/path`, `[v6]:/path`; the path with the directory of a bind mount. */
function splitSource({ source, root }: MountedFileSystem): { readonly host: string; readonly path: string } {
  const colon = source.startsWith('[') ? source.indexOf(']:') + 1 : source.indexOf(':')
  return { host: source.slice(0, colon), path: plainPath(`${source.slice(colon + 1)}/${root}`) }
}

/** Without double and trailing slashes. */
const plainPath = (path: string): string =>
  `/${path
    .split('/')
    .filter((part) => part !== '')
    .join('/')}`

async function sameServer(names: readonly string[], host: string, { options }: MountedFileSystem, look: HostLookup): Promise<boolean> {
  const wanted = new Set(names.filter((name) => name !== '').map(plainHost))
  if (wanted.has(plainHost(host))) return true
  const own = new Set(await addresses(plainHost(host), look))
  for (const option of options) if (option.startsWith('addr=')) own.add(plainHost(option.slice('addr='.length)))
  for (const name of wanted) for (const address of await addresses(name, look)) if (own.has(address)) return true
  return false
}

const addresses = async (host: string, look: HostLookup): Promise<readonly string[]> =>
  isIP(host) === 0 ? (await look(host)).map(plainHost) : [host]

/** One spelling of each name and address: `[2001:DB8:0::1]` and `2001:db8::1` are the same, as are `::ffff:10.0.0.1` and `10.0.0.1`. */
export function plainHost(host: string): string {
  const bare = host
    .replace(/^\[|\]$/g, '')
    .replace(/%.*$/, '')
    .toLowerCase()
  if (isIP(bare) !== 6) return bare.replace(/\.$/, '')
  const plain = new URL(`http://[${bare}]/`).hostname.slice(1, -1)
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(plain)
  if (mapped === null) return plain
  const [high, low] = [Number.parseInt(mapped[1] ?? '0', 16), Number.parseInt(mapped[2] ?? '0', 16)]
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}
