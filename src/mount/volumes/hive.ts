import { AgentError } from '../../core/index.ts'

const BINS = 4096
const MOST_KEYS = 65_536
const MOST_VALUES = 65_536
/** Larger data is kept in another form; none of what is asked for is. */
const LARGEST_VALUE = 16_344
const COMPRESSED_NAME = 0x20

/**
 * The values of one key of a Windows registry hive (docs/formats/registry-hive.md), by name as it is written; undefined when there is no such key. Names of
 * keys are compared without case. The hive's log is not replayed. INTEGRITY where the file is no hive or a cell leads outside it.
 */
export function readHiveValues(hive: Uint8Array, path: readonly string[]): Map<string, Buffer> | undefined {
  const file = Buffer.from(hive.buffer, hive.byteOffset, hive.byteLength)
  if (file.length < BINS + 32 || file.toString('latin1', 0, 4) !== 'regf') throw damaged('it does not begin as one')
  let key = cell(file, file.readUInt32LE(36), 'nk', 76)
  for (const name of path) {
    const found = subkey(file, key, name.toLowerCase())
    if (found === undefined) return undefined
    key = found
  }
  return valuesOf(file, key)
}

function subkey(file: Buffer, key: Buffer, name: string): Buffer | undefined {
  if (key.readUInt32LE(20) === 0) return undefined
  let left = MOST_KEYS
  for (const list of lists(file, key.readUInt32LE(28))) {
    for (const offset of list) {
      if (left-- === 0) throw damaged('a key has too many keys')
      const child = cell(file, offset, 'nk', 76)
      if (nameOf(child, 72, 76, (child.readUInt16LE(2) & COMPRESSED_NAME) !== 0).toLowerCase() === name) return child
    }
  }
  return undefined
}

/** `lf` and `lh` hold pairs (key, hash), `li` keys, `ri` leads to lists of these. */
function lists(file: Buffer, offset: number): number[][] {
  const list = cell(file, offset, undefined, 4)
  return list.toString('latin1', 0, 2) === 'ri' ? entries(list, 4).map((inner) => leaf(cell(file, inner, undefined, 4))) : [leaf(list)]
}

function leaf(list: Buffer): number[] {
  const kind = list.toString('latin1', 0, 2)
  if (kind === 'li') return entries(list, 4)
  if (kind === 'lf' || kind === 'lh') return entries(list, 8)
  throw damaged('a list of keys is none')
}

function entries(list: Buffer, bytes: number): number[] {
  const count = list.readUInt16LE(2)
  if (4 + count * bytes > list.length) throw damaged('a list of keys is cut')
  return Array.from({ length: count }, (_, index) => list.readUInt32LE(4 + index * bytes))
}

function valuesOf(file: Buffer, key: Buffer): Map<string, Buffer> {
  const count = key.readUInt32LE(36)
  const found = new Map<string, Buffer>()
  if (count === 0) return found
  if (count > MOST_VALUES) throw damaged('a key has too many values')
  const list = cell(file, key.readUInt32LE(40), undefined, count * 4)
  for (let index = 0; index < count; index++) {
    const value = cell(file, list.readUInt32LE(index * 4), 'vk', 20)
    const name = nameOf(value, 2, 20, (value.readUInt16LE(16) & 1) !== 0)
    const size = value.readUInt32LE(4)
    const inline = (size & 0x8000_0000) !== 0
    const length = size & 0x7fff_ffff
    if (inline) found.set(name, value.subarray(8, 8 + Math.min(4, length)))
    else if (length <= LARGEST_VALUE) found.set(name, cell(file, value.readUInt32LE(8), undefined, length).subarray(0, length))
  }
  return found
}

function nameOf(bytes: Buffer, lengthAt: number, at: number, oneByte: boolean): string {
  const length = bytes.readUInt16LE(lengthAt)
  if (at + length > bytes.length) throw damaged('a name is cut')
  return bytes.toString(oneByte ? 'latin1' : 'utf16le', at, at + length)
}

/** The data of a cell in use, at least `least` bytes of it. */
function cell(file: Buffer, offset: number, magic: string | undefined, least: number): Buffer {
  const at = BINS + offset
  if (at + 4 > file.length) throw damaged('a cell lies outside it')
  const size = -file.readInt32LE(at)
  if (size < 4 + least || at + size > file.length) throw damaged('a cell is too small or lies outside it')
  const data = file.subarray(at + 4, at + size)
  if (magic !== undefined && data.toString('latin1', 0, 2) !== magic) throw damaged(`a cell is no ${magic}`)
  return data
}

const damaged = (why: string): AgentError =>
  new AgentError('INTEGRITY', `A registry hive of the guest cannot be read: ${why}.`, {
    next: 'The volumes are there by number, without drive letters.',
  })
