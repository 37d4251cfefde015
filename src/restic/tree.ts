import { AgentError } from '../core/index.ts'
import { goString, goTime } from './go-json.ts'
import { goQuote, goUnquote } from './go-quote.ts'
import { BlobIds, ID_BYTES, idHex, isHexId } from './ids.ts'
import { JsonScanner } from './json-scanner.ts'

export type NodeType = 'file' | 'dir' | 'symlink' | 'dev' | 'chardev' | 'fifo' | 'socket'

/** One entry of a directory, as restic stores it. Written by the provider for files and directories; others only come from restic. */
export type TreeNode = {
  /** One path component, never empty, `.`, `..` or with a slash. */
  readonly name: string
  readonly type: NodeType
  /** Permission bits (0o600); type bits are added and removed here. */
  readonly mode: number
  /** RFC 3339; any precision up to nanoseconds. `atime` and `ctime` default to it when written. */
  readonly mtime: string
  readonly atime?: string | undefined
  readonly ctime?: string | undefined
  readonly uid?: number | undefined
  readonly gid?: number | undefined
  readonly user?: string | undefined
  readonly group?: string | undefined
  /** Bytes; files only. */
  readonly size?: number | undefined
  readonly linktarget?: string | undefined
  /** Files only: their data blobs in order. */
  readonly content?: BlobIds | undefined
  /** Directories only: hex id of their tree. */
  readonly subtree?: string | undefined
}

/** The type bits of Go's os.FileMode that restic stores with the mode. */
const TYPE_BITS: Readonly<Record<NodeType, number>> = Object.freeze({
  file: 0,
  dir: 2 ** 31,
  symlink: 2 ** 27,
  dev: 2 ** 26,
  chardev: 2 ** 26 + 2 ** 21,
  fifo: 2 ** 25,
  socket: 2 ** 24,
})
const PERMISSIONS = 0o777

/** A tree that large is written, with a warning: every restic that lists it holds it whole in memory. */
export const LARGE_TREE_BYTES = 16 * 1024 * 1024

/** JSON of a tree, byte for byte as restic writes it; nodes sorted by name (as bytes of UTF-8). USAGE for a node that must not be stored. */
export function encodeTree(nodes: readonly TreeNode[]): Buffer {
  const named = nodes.map((node) => ({ node, key: Buffer.from(node.name, 'utf8') })).sort((a, b) => Buffer.compare(a.key, b.key))
  for (const [index, { node, key }] of named.entries()) {
    refuseBadName(node.name)
    const before = named[index - 1]
    if (before !== undefined && before.key.equals(key))
      throw new AgentError('USAGE', `A directory cannot hold ${JSON.stringify(node.name)} twice.`)
  }
  const parts: Buffer[] = [Buffer.from('{"nodes":[')]
  for (const [index, { node }] of named.entries()) {
    if (index > 0) parts.push(Buffer.from(','))
    encodeNode(node, parts)
  }
  parts.push(Buffer.from(']}\n'))
  return Buffer.concat(parts)
}

function encodeNode(node: TreeNode, parts: Buffer[]): void {
  const fields: string[] = [`"name":${goString(goQuote(node.name))}`, `"type":"${node.type}"`]
  const text = (name: string, value: string | undefined): void => {
    if (value !== undefined && value !== '') fields.push(`"${name}":${goString(value)}`)
  }
  const number = (name: string, value: number | undefined): void => {
    if (value !== undefined && value !== 0) fields.push(`"${name}":${value}`)
  }
  if (node.type !== 'file' && node.type !== 'dir' && node.type !== 'symlink') {
    throw new AgentError('USAGE', `A ${node.type} node cannot be stored; only files, directories and symbolic links can.`)
  }
  number('mode', (node.mode & PERMISSIONS) + TYPE_BITS[node.type])
  const mtime = goTime(node.mtime)
  fields.push(`"mtime":"${mtime}"`)
  fields.push(`"atime":"${node.atime === undefined ? mtime : goTime(node.atime)}"`)
  fields.push(`"ctime":"${node.ctime === undefined ? mtime : goTime(node.ctime)}"`)
  fields.push(`"uid":${node.uid ?? 0}`, `"gid":${node.gid ?? 0}`)
  text('user', node.user)
  text('group', node.group)
  if (node.type === 'file') number('size', node.size)
  if (node.type === 'symlink') text('linktarget', node.linktarget)
  parts.push(Buffer.from(`{${fields.join(',')},"content":`, 'utf8'))
  parts.push(node.type === 'file' ? encodeContent(node.content) : Buffer.from('null'))
  if (node.type === 'dir') {
    if (!isHexId(node.subtree)) throw new AgentError('USAGE', `The directory ${JSON.stringify(node.name)} has no tree id.`)
    parts.push(Buffer.from(`,"subtree":"${node.subtree}"`))
  }
  parts.push(Buffer.from('}'))
}

/** `["id","id",…]`: 67 bytes an id. */
function encodeContent(ids: BlobIds | undefined): Buffer {
  const count = ids?.length ?? 0
  const out = Buffer.alloc(2 + Math.max(0, count * 67 - 1))
  out[0] = 0x5b
  let at = 1
  for (let index = 0; index < count; index++) {
    if (index > 0) out[at++] = 0x2c
    out[at] = 0x22
    ids?.writeHex(index, out, at + 1)
    out[at + 65] = 0x22
    at += 66
  }
  out[at] = 0x5d
  return out
}

/** Reads a tree's JSON. Names that would leave their directory are INTEGRITY, like everything out of form. */
export function parseTree(json: Buffer, id: string): TreeNode[] {
  const scan = new JsonScanner(json, `tree ${id}`)
  const nodes: TreeNode[] = []
  scan.beginObject()
  for (let key = scan.nextKey(); key !== undefined; key = scan.nextKey()) {
    if (key !== 'nodes') scan.skip()
    else if (!scan.null()) {
      scan.beginArray()
      while (scan.nextElement()) nodes.push(readNode(scan))
    }
  }
  scan.end()
  return nodes
}

const TEXTS = new Set(['name', 'type', 'mtime', 'atime', 'ctime', 'user', 'group', 'linktarget'])
const NUMBERS = new Set(['mode', 'uid', 'gid', 'size'])

function readNode(scan: JsonScanner): TreeNode {
  const texts = new Map<string, string>()
  const numbers = new Map<string, number>()
  let content: BlobIds | undefined
  let subtree: string | undefined
  scan.beginObject()
  for (let key = scan.nextKey(); key !== undefined; key = scan.nextKey()) {
    if (TEXTS.has(key)) texts.set(key, scan.string())
    else if (NUMBERS.has(key)) numbers.set(key, scan.uint())
    else if (key === 'content') content = readContent(scan)
    else if (key === 'subtree' && !scan.null()) {
      const id = new Uint8Array(ID_BYTES)
      scan.id(id, 0)
      subtree = idHex(id)
    } else if (key !== 'subtree') scan.skip()
  }
  const name = goUnquote(texts.get('name') ?? '')
  if (isBadName(name)) scan.fail(`the name ${JSON.stringify(name)} is not allowed`)
  const type = texts.get('type') ?? ''
  if (!isNodeType(type)) scan.fail(`the node type ${JSON.stringify(type)} is not known`)
  if (type === 'dir' && subtree === undefined) scan.fail('a directory without a tree')
  return {
    name,
    type,
    mode: (numbers.get('mode') ?? 0) & PERMISSIONS,
    mtime: texts.get('mtime') ?? '0001-01-01T00:00:00Z',
    atime: texts.get('atime'),
    ctime: texts.get('ctime'),
    uid: numbers.get('uid') ?? 0,
    gid: numbers.get('gid') ?? 0,
    user: texts.get('user'),
    group: texts.get('group'),
    size: type === 'file' ? (numbers.get('size') ?? 0) : undefined,
    linktarget: texts.get('linktarget'),
    content: type === 'file' ? (content ?? new BlobIds(0)) : undefined,
    subtree: type === 'dir' ? subtree : undefined,
  }
}

function readContent(scan: JsonScanner): BlobIds | undefined {
  if (scan.null()) return undefined
  let bytes = new Uint8Array(ID_BYTES * 4)
  let count = 0
  scan.beginArray()
  while (scan.nextElement()) {
    if (count * ID_BYTES === bytes.length) {
      const grown = new Uint8Array(bytes.length * 2)
      grown.set(bytes)
      bytes = grown
    }
    scan.id(bytes, count * ID_BYTES)
    count++
  }
  return new BlobIds(bytes.slice(0, count * ID_BYTES))
}

const isNodeType = (type: string): type is NodeType => Object.hasOwn(TYPE_BITS, type)
const isBadName = (name: string): boolean => name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')

function refuseBadName(name: string): void {
  if (isBadName(name)) throw new AgentError('USAGE', `${JSON.stringify(name)} cannot be the name of a file in a snapshot.`)
}
