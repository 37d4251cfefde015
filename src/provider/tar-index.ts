import { type Abortable, AgentError, KIB, MIB } from '../core/index.ts'
import type { ByteSource } from '../disk/index.ts'

/** One entry of an archive: where its data lies. */
export type TarEntry = {
  /** As extraction names it: of a sparse entry its real name. */
  readonly name: string
  /** Bytes of data in the archive. */
  readonly size: number
  /** First byte of the data. */
  readonly offset: number
  /** Of a GNU sparse 1.0 entry: the size of the extracted file. */
  readonly realSize: number | undefined
}

/** What messages call an archive. */
type Named = Pick<ByteSource, 'name'>

export const BLOCK = 512
const MOST_ENTRIES = 100_000
const MOST_PAX_BYTES = MIB

/**
 * Walks an archive from header to header without reading the data between. Understands what `tar-archive.md` lists: ustar with pax headers
 * and sizes in base 256, GNU sparse 1.0. INTEGRITY for anything out of form, a truncated archive, a missing end of archive.
 */
export async function indexArchive(archive: ByteSource, options?: Abortable): Promise<readonly TarEntry[]> {
  const entries: TarEntry[] = []
  let pax: ReadonlyMap<string, string> = new Map()
  for (let at = 0; ; ) {
    if (at + BLOCK > archive.size) throw broken(archive, 'ends without the end-of-archive mark: it is truncated')
    const header = Buffer.alloc(BLOCK)
    await archive.read(at, header, options)
    if (header.every((byte) => byte === 0)) {
      await requireEnd(archive, at, options)
      return entries
    }
    const { name, size, type } = readHeader(header, archive, at)
    const own = Number(pax.get('size') ?? size)
    const next = at + BLOCK + Math.ceil(own / BLOCK) * BLOCK
    if (!Number.isSafeInteger(own) || own < 0 || next > archive.size) throw broken(archive, `is truncated in the entry at byte ${at}`)
    if (type === 'x') {
      pax = await readPax(archive, at + BLOCK, own, options)
    } else {
      if (type === '0' || type === '\0') entries.push(entry(archive, pax, name, own, at + BLOCK))
      else if (type !== '5' && type !== 'g') throw broken(archive, `holds an entry of type ${JSON.stringify(type)} at byte ${at}`)
      pax = new Map()
    }
    if (entries.length > MOST_ENTRIES) throw broken(archive, `has more than ${MOST_ENTRIES} entries`)
    at = next
  }
}

function entry(archive: ByteSource, pax: ReadonlyMap<string, string>, plain: string, size: number, offset: number): TarEntry {
  const sparse = pax.get('GNU.sparse.major')
  const name = pax.get('GNU.sparse.name') ?? pax.get('path') ?? plain
  const parts = name.split('/')
  if (name.startsWith('/') || name.includes('\0') || parts.includes('..') || parts.includes('.') || parts.includes('')) {
    throw broken(archive, `names ${JSON.stringify(name.slice(0, 200))}, which would leave its directory`)
  }
  if (sparse === undefined) return { name, size, offset, realSize: undefined }
  const realSize = Number(pax.get('GNU.sparse.realsize'))
  if (sparse !== '1' || pax.get('GNU.sparse.minor') !== '0' || !Number.isSafeInteger(realSize) || realSize < 0) {
    throw broken(archive, `keeps ${JSON.stringify(name.slice(0, 200))} in a sparse form that is not GNU 1.0`)
  }
  return { name, size, offset, realSize }
}

/** What an entry's header says. INTEGRITY when its checksum is wrong. */
export function readHeader(
  header: Buffer,
  archive: Named,
  at: number,
): { readonly name: string; readonly size: number; readonly type: string } {
  const sum = parseInt(text(header, 148, 8).trim(), 8)
  // The checksum is taken with its own field as blanks.
  let actual = 8 * 0x20
  for (const [index, byte] of header.entries()) if (index < 148 || index >= 156) actual += byte
  if (sum !== actual) throw broken(archive, `has a wrong header checksum at byte ${at}`)
  const prefix = header.toString('latin1', 257, 262) === 'ustar' ? text(header, 345, 155) : ''
  const name = text(header, 0, 100)
  return { name: prefix === '' ? name : `${prefix}/${name}`, size: readSize(header), type: header.toString('latin1', 156, 157) }
}

/** Field `size`: octal, or base 256 (big-endian, high bit set) for 8 GiB and more. NaN when neither. */
function readSize(header: Buffer): number {
  if (((header[124] ?? 0) & 0x80) === 0) {
    const octal = text(header, 124, 12).trim()
    return /^[0-7]*$/u.test(octal) ? parseInt(octal || '0', 8) : Number.NaN
  }
  let value = BigInt((header[124] ?? 0) & 0x7f)
  for (let index = 125; index < 136; index++) value = (value << 8n) | BigInt(header[index] ?? 0)
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.NaN : Number(value)
}

async function readPax(archive: ByteSource, offset: number, size: number, options?: Abortable): Promise<ReadonlyMap<string, string>> {
  if (size > MOST_PAX_BYTES) throw broken(archive, `has an extended header of ${size} bytes`)
  const bytes = Buffer.alloc(size)
  await archive.read(offset, bytes, options)
  return parsePax(bytes, archive, offset)
}

/** The records of an extended header whose data is at byte `offset`. INTEGRITY when it is damaged. */
export function parsePax(bytes: Buffer, archive: Named, offset: number): ReadonlyMap<string, string> {
  const records = new Map<string, string>()
  for (let at = 0; at < bytes.length; ) {
    const blank = bytes.indexOf(0x20, at)
    const length = blank < 0 ? Number.NaN : Number(bytes.toString('latin1', at, blank))
    const equals = bytes.indexOf(0x3d, blank)
    const end = at + length
    if (!Number.isInteger(length) || end > bytes.length || equals < 0 || equals >= end || bytes[end - 1] !== 0x0a) {
      throw broken(archive, `has a damaged extended header at byte ${offset}`)
    }
    records.set(bytes.toString('utf8', blank + 1, equals), bytes.toString('utf8', equals + 1, end - 1))
    at = end
  }
  return records
}

/** Two zero blocks, and after them nothing but zeros as far as one record. */
async function requireEnd(archive: ByteSource, at: number, options?: Abortable): Promise<void> {
  const rest = Math.min(archive.size - at, 64 * KIB)
  const tail = Buffer.alloc(rest)
  await archive.read(at, tail, options)
  if (rest < 2 * BLOCK || tail.some((byte) => byte !== 0)) throw broken(archive, 'has no whole end-of-archive mark: it is truncated')
}

/** A field up to its first NUL, UTF-8. */
function text(header: Buffer, start: number, length: number): string {
  const field = header.subarray(start, start + length)
  const end = field.indexOf(0)
  return field.toString('utf8', 0, end < 0 ? length : end)
}

const broken = (archive: Named, what: string): AgentError =>
  new AgentError('INTEGRITY', `The archive ${archive.name} ${what}.`, { subject: archive.name })
