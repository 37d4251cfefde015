import { AgentError } from '../core/index.ts'
import { type Descriptor, type DescriptorExtent, EXTENT_ACCESS, EXTENT_TYPES, MAX_DESCRIPTOR_BYTES, NO_PARENT } from './descriptor.ts'

/** No disk has more sectors than this (4 PiB); keeps every product below 2^53. */
const MAX_SECTORS = 2 ** 43

/**
 * Reads a text descriptor from its bytes; zero padding at the end (embedded descriptors) is dropped. Only syntax is judged here:
 * whether the disk can be read is decided when it is opened. `name` is for messages. Errors: INTEGRITY.
 */
export function parseDescriptor(bytes: Uint8Array, name: string): Descriptor {
  if (bytes.length > MAX_DESCRIPTOR_BYTES) throw bad(name, `is ${bytes.length} bytes long, which is too large for a descriptor`)
  const { text, encoding } = decode(bytes, name)
  const header = new Map<string, { key: string; value: string }>()
  const ddb = new Map<string, string>()
  const extents: DescriptorExtent[] = []
  let started = false
  let sectors = 0
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const access = /^[A-Za-z]+(?=[ \t])/.exec(line)?.[0].toUpperCase()
    const at = line.indexOf('=')
    if (started && access !== undefined && isAccess(access)) {
      const extent = parseExtent(line, access, index + 1, name)
      sectors += extent.sectors
      if (sectors > MAX_SECTORS) throw bad(name, `describes more than ${MAX_SECTORS} sectors`)
      extents.push(extent)
      continue
    }
    const key = at > 0 ? line.slice(0, at).trim() : ''
    if (key === '' || /\s/.test(key)) throw bad(name, `has a line that is not understood (line ${index + 1})`)
    if (!started && key.toLowerCase() !== 'version') throw bad(name, 'does not begin with a version line, so it is no VMDK descriptor')
    started = true
    const value = line.slice(at + 1).trim()
    if (key.toLowerCase().startsWith('ddb.')) put(ddb, key, unquote(value), name)
    else putHeader(header, key, value, name)
  }
  if (!started) throw bad(name, 'is empty')
  return build(header, ddb, extents, encoding, name)
}

function build(
  header: Map<string, { key: string; value: string }>,
  ddb: Map<string, string>,
  extents: DescriptorExtent[],
  encoding: string,
  name: string,
): Descriptor {
  const take = (key: string): string | undefined => {
    const found = header.get(key)
    header.delete(key)
    return found === undefined ? undefined : unquote(found.value)
  }
  const version = take('version')
  if (version !== '1' && version !== '2' && version !== '3') throw bad(name, `has version ${quote(version)}, only 1 to 3 are known`)
  const createType = take('createtype')
  if (createType === undefined || createType === '') throw bad(name, 'has no createType')
  take('encoding')
  const hint = take('parentfilenamehint')
  const changeTrackPath = take('changetrackpath')
  const cid = parseCid(take('cid'), 'CID', name)
  const parentCid = parseCid(take('parentcid') ?? NO_PARENT, 'parentCID', name)
  const isNativeSnapshot = (take('isnativesnapshot') ?? 'no').toLowerCase() === 'yes'
  return Object.freeze({
    version: version === '1' ? 1 : version === '2' ? 2 : 3,
    encoding,
    cid,
    parentCid,
    createType,
    ...(hint === undefined || hint === '' ? {} : { parentFileNameHint: hint }),
    ...(changeTrackPath === undefined || changeTrackPath === '' ? {} : { changeTrackPath }),
    isNativeSnapshot,
    extents: Object.freeze(extents),
    others: new Map([...header.values()].map(({ key, value }) => [key, value] as const)),
    ddb,
  })
}

/** `ACCESS SECTORS TYPE ["file" [OFFSET …]]`; the file name ends at the LAST quote, for names may hold quotes. */
function parseExtent(line: string, access: DescriptorExtent['access'], number: number, name: string): DescriptorExtent {
  const match = /^[A-Za-z]+[ \t]+(\d{1,16})[ \t]+([A-Za-z0-9]+)(?:[ \t]+(.*))?$/u.exec(line)
  if (match === null) throw bad(name, `has an extent line that is not understood (line ${number})`)
  const [, sectorText = '', typeText = '', rest = ''] = match
  const type = EXTENT_TYPES.find((known) => known === typeText.toUpperCase())
  if (type === undefined) throw bad(name, `has an extent of the unknown type ${quote(typeText)} (line ${number})`)
  const sectors = Number(sectorText)
  if (sectors === 0 || sectors > MAX_SECTORS) throw bad(name, `has an extent of ${sectorText} sectors (line ${number})`)
  if (type === 'ZERO') return { access, sectors, type }
  const end = rest.lastIndexOf('"')
  if (!rest.startsWith('"') || end < 2) throw bad(name, `has an extent line without a file name (line ${number})`)
  const tail = rest.slice(end + 1).trim()
  const offsetText = tail.split(/[ \t]/u, 1)[0] ?? ''
  if (offsetText !== '' && !/^\d{1,16}$/.test(offsetText)) throw bad(name, `has an extent line with a wrong offset (line ${number})`)
  if (type === 'FLAT' && offsetText === '') throw bad(name, `has a FLAT extent without an offset (line ${number})`)
  const offset = offsetText === '' ? undefined : Number(offsetText)
  if (offset !== undefined && offset > MAX_SECTORS) throw bad(name, `has an extent line with a wrong offset (line ${number})`)
  return { access, sectors, type, file: rest.slice(1, end), ...(offset === undefined ? {} : { offset }) }
}

/**
 * The text ends at the first zero byte. qemu (7.2, block/vmdk.c, vmdk_write_cid) writes a content id without leading zeros over a longer one and ends the shorter
 * text with a zero: the last bytes of the longer text, which had at most eight digits there, stay behind it.
 */
const MOST_LEFT = 7

function decode(bytes: Uint8Array, name: string): { text: string; encoding: string } {
  const zero = bytes.indexOf(0)
  const body = zero < 0 ? bytes : bytes.subarray(0, zero)
  let end = bytes.length
  while (end > body.length && bytes[end - 1] === 0) end--
  if (end - body.length - 1 > MOST_LEFT) throw bad(name, 'holds zero bytes, so it is no text descriptor')
  const declared = /^[ \t]*encoding[ \t]*=[ \t]*"?([A-Za-z0-9_.:-]{1,40})"?[ \t]*\r?$/im.exec(Buffer.from(body).toString('latin1'))?.[1]
  const encoding = declared ?? 'UTF-8'
  let decoder: TextDecoder
  try {
    decoder = new TextDecoder(encoding, { fatal: true })
  } catch (cause) {
    // An encoding nobody here knows does no harm as long as nothing but ASCII is used.
    if (body.every((byte) => byte < 0x80)) return { text: Buffer.from(body).toString('latin1'), encoding }
    throw bad(name, `is written in the encoding ${quote(encoding)}, which is not known here`, cause)
  }
  try {
    return { text: decoder.decode(body), encoding }
  } catch (cause) {
    throw bad(name, `holds bytes that are not ${encoding}`, cause)
  }
}

const isAccess = (word: string): word is DescriptorExtent['access'] => EXTENT_ACCESS.some((known) => known === word)

function parseCid(text: string | undefined, key: string, name: string): string {
  if (text === undefined || !/^[0-9a-f]{1,8}$/i.test(text)) throw bad(name, `has the ${key} ${quote(text)}, which is not 8 hex digits`)
  return text.toLowerCase().padStart(8, '0')
}

/** Without surrounding quotes; a value may hold quotes itself, so only the first and the last count. */
function unquote(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value
}

function putHeader(map: Map<string, { key: string; value: string }>, key: string, value: string, name: string): void {
  const before = map.get(key.toLowerCase())
  if (before !== undefined && before.value !== value) throw bad(name, `gives the key ${quote(key)} twice with different values`)
  map.set(key.toLowerCase(), { key, value })
}

function put(map: Map<string, string>, key: string, value: string, name: string): void {
  const before = map.get(key)
  if (before !== undefined && before !== value) throw bad(name, `gives the key ${quote(key)} twice with different values`)
  map.set(key, value)
}

const quote = (text: string | undefined): string => (text === undefined ? 'none' : JSON.stringify(text.slice(0, 80)))

function bad(name: string, what: string, cause?: unknown): AgentError {
  return new AgentError('INTEGRITY', `The descriptor ${name} ${what}.`, {
    subject: name,
    next: 'Name the small text file of the disk (not its -flat, -delta or -sesparse file), or restore the descriptor.',
    cause,
  })
}
