import { createHash, createHmac } from 'node:crypto'
import { AgentError } from '../core/index.ts'

/** What a host's key is held against: fingerprints as OpenSSH prints them (`SHA256:…`), or the text of a known_hosts file. */
export type HostKeyPin =
  | { readonly fingerprints: readonly string[] }
  | { readonly knownHosts: { readonly path: string; readonly text: string } }

/** `SHA256:` and the digest of the key's wire form in base64 without padding, as `ssh-keygen -l` prints it. */
export const fingerprintOf = (key: Uint8Array): string => `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`

/** The algorithm's name at the start of the wire form (RFC 4253, 6.6). */
export function keyTypeOf(key: Uint8Array): string {
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength)
  const length = key.length >= 4 ? view.getUint32(0) : 0
  return length > 0 && length <= 64 && 4 + length <= key.length ? Buffer.from(key.subarray(4, 4 + length)).toString('latin1') : 'unknown'
}

/** A fingerprint somebody wrote down, in the form `fingerprintOf` gives. Undefined when it is none. */
export function parseFingerprint(text: string): string | undefined {
  const [, digest] = /^(?:SHA256:)?([A-Za-z0-9+/]{43})=?$/.exec(text.trim()) ?? []
  return digest === undefined ? undefined : `SHA256:${digest}`
}

/** Throws AUTH, with both fingerprints, unless the key shown is the one pinned. Nobody is ever accepted unknown. */
export function checkHostKey(
  host: { readonly name: string; readonly address: string; readonly port: number; readonly pinnedIn?: string | undefined },
  key: Uint8Array,
  pin: HostKeyPin,
): void {
  const shown = `${fingerprintOf(key)} (${keyTypeOf(key)})`
  const refuse = (message: string, next: string): never => {
    throw new AgentError('AUTH', message, { subject: host.name, next })
  }
  if ('fingerprints' in pin) {
    if (pin.fingerprints.includes(fingerprintOf(key))) return
    if (pin.fingerprints.length === 0) {
      refuse(
        `The SSH host key of ${host.name} is not pinned; it shows ${shown}.`,
        `If that is the host's (ssh-keygen -l there), write it as hostKey into ${host.pinnedIn ?? `ssh.hosts."${host.name}"`} of vcb.yaml.`,
      )
    }
    refuse(
      `The SSH host key of ${host.name} is ${shown}, pinned is ${pin.fingerprints.join(', ')}.`,
      'Compare it on the host itself (ssh-keygen -l); pin the new one only if it is right.',
    )
    return
  }
  const { path, text } = pin.knownHosts
  const known = knownKeys(text, host.address, host.port)
  const encoded = Buffer.from(key).toString('base64')
  if (known.some((entry) => entry.revoked && entry.key === encoded))
    refuse(`The SSH host key of ${host.name} (${shown}) is marked as revoked in ${path}.`, 'Give the host a new key.')
  const trusted = known.filter((entry) => !entry.revoked)
  if (trusted.some((entry) => entry.key === encoded)) return
  if (trusted.length === 0)
    refuse(
      `The SSH host key of ${host.name} is not known: ${path} has none for ${host.address}.`,
      `If ${fingerprintOf(key)} is the host's, pin it as hostKey.`,
    )
  const prints = trusted.map((entry) => fingerprintOf(Buffer.from(entry.key, 'base64')))
  refuse(
    `The SSH host key of ${host.name} is ${shown}, ${path} says ${prints.join(', ')}.`,
    'Compare it on the host itself (ssh-keygen -l); put the new one there only if it is right.',
  )
}

/** Key types that a pin can be about, so that a server with several shows the one that is known; undefined when any may be. */
export function pinnedTypes(pin: HostKeyPin, host: { readonly address: string; readonly port: number }): readonly string[] | undefined {
  if ('fingerprints' in pin) return undefined
  const types = knownKeys(pin.knownHosts.text, host.address, host.port).flatMap((entry) => (entry.revoked ? [] : [entry.type]))
  return types.length === 0 ? undefined : [...new Set(types)]
}

type KnownKey = { readonly type: string; readonly key: string; readonly revoked: boolean }

/** The lines of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT) about this address. Authorities are not followed. */
export function knownKeys(text: string, address: string, port: number): readonly KnownKey[] {
  const name = (port === 22 ? address : `[${address}]:${port}`).toLowerCase()
  const keys: KnownKey[] = []
  for (const line of text.split(/\r?\n/)) {
    const fields = line.trim().split(/[ \t]+/)
    if (fields[0] === undefined || fields[0] === '' || fields[0].startsWith('#')) continue
    const marker = fields[0].startsWith('@') ? fields.shift() : undefined
    const [hosts = '', type = '', key = ''] = fields
    if (marker !== undefined && marker !== '@revoked') continue
    if (!/^[A-Za-z0-9+/]+=*$/.test(key) || !isFor(hosts, name)) continue
    keys.push({ type, key, revoked: marker !== undefined })
  }
  return keys
}

function isFor(patterns: string, name: string): boolean {
  const [, salt, hash] = /^\|1\|([^|]+)\|([^|]+)$/.exec(patterns) ?? []
  if (salt !== undefined && hash !== undefined) {
    return createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest('base64') === hash
  }
  let found = false
  for (const pattern of patterns.toLowerCase().split(',')) {
    const negated = pattern.startsWith('!')
    if (!matches(negated ? pattern.slice(1) : pattern, name)) continue
    if (negated) return false
    found = true
  }
  return found
}

/** `*` and `?` of known_hosts patterns; a backtracking matcher without a regular expression of foreign text. */
function matches(pattern: string, text: string): boolean {
  let [p, t, star, mark] = [0, 0, -1, 0]
  while (t < text.length) {
    if (pattern[p] === '*') [star, mark, p] = [p, t, p + 1]
    else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) [p, t] = [p + 1, t + 1]
    else if (star >= 0) [p, mark, t] = [star + 1, mark + 1, mark + 1]
    else return false
  }
  while (pattern[p] === '*') p++
  return p === pattern.length
}
