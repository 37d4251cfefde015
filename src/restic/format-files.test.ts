import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentError } from '../core/index.ts'
import { BlobRecords, DATA, TREE } from './blob-records.ts'
import { BlobIds } from './ids.ts'
import { encodeIndexFile, INDEX_FILE_BLOBS, parseIndexFile } from './index-file.ts'
import { encodePackHeader, packTailBytes, parsePackHeader } from './pack-header.ts'
import { encodeSnapshot, parseSnapshot } from './snapshot.ts'
import { encodeTree, parseTree, type TreeNode } from './tree.ts'

const blobs = fc.array(
  fc.record({
    id: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    type: fc.constantFrom(DATA, TREE),
    length: fc.integer({ min: 32, max: 1_000_000 }),
    uncompressedLength: fc.nat(2_000_000),
  }),
  { maxLength: 50 },
)

function records(
  list: readonly { id: Uint8Array; type: typeof DATA | typeof TREE; length: number; uncompressedLength: number }[],
): BlobRecords {
  const made = new BlobRecords()
  let offset = 0
  for (const { id, ...place } of list) {
    made.add(id, { ...place, offset })
    offset += place.length
  }
  return made
}
const listed = (from: BlobRecords): unknown[] =>
  Array.from({ length: from.count }, (_, index) => ({ id: Buffer.from(from.id(index)).toString('hex'), ...from.place(index) }))

/** Nothing but an INTEGRITY error may come out of a parser for bytes it does not like. */
function integrityOrFine(parse: () => unknown): void {
  try {
    parse()
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'INTEGRITY') throw error
  }
}

const TIME = '2026-11-22T10:00:00Z'
const node = (name: string, more: Partial<TreeNode> = {}): TreeNode => ({ name, type: 'file', mode: 0o644, mtime: TIME, size: 0, ...more })

describe('pack headers', () => {
  it('come back as they were written, within their bound', () => {
    fc.assert(
      fc.property(blobs, (list) => {
        const header = encodePackHeader(records(list))
        expect(header.length + 36).toBeLessThanOrEqual(packTailBytes(list.length))
        expect(listed(parsePackHeader(header, 'p'))).toEqual(listed(records(list)))
      }),
    )
  })

  it('refuse rubbish, cut and changed headers with INTEGRITY alone', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => integrityOrFine(() => parsePackHeader(Buffer.from(bytes), 'p'))))
    const header = encodePackHeader(records([{ id: randomBytes(32), type: DATA, length: 100, uncompressedLength: 200 }]))
    for (let length = 1; length < header.length; length++) {
      expect(() => parsePackHeader(header.subarray(0, length), 'p')).toThrow('pack p is damaged')
    }
    for (const kind of [4, 5, 255])
      expect(() => parsePackHeader(Buffer.concat([Buffer.from([kind]), header.subarray(1)]), 'p')).toThrow(AgentError)
  })
})

describe('index files', () => {
  it('come back as they were written', () => {
    fc.assert(
      fc.property(fc.array(blobs, { maxLength: 5 }), (packs) => {
        const ids = packs.map((_, index) => Buffer.alloc(32, index + 1))
        const json = encodeIndexFile(packs.map((list, index) => ({ id: ids[index] ?? Buffer.alloc(32), blobs: records(list) })))
        const found: unknown[] = []
        parseIndexFile(json, 'x', (id, from) => found.push([Buffer.from(id).toString('hex'), listed(from)]))
        expect(found).toEqual(packs.map((list, index) => [ids[index]?.toString('hex'), listed(records(list))]))
      }),
      { numRuns: 50 },
    )
  })

  it('stay below 8 MiB', () => {
    const full = new BlobRecords()
    for (let blob = 0; blob < INDEX_FILE_BLOBS; blob++) {
      full.add(randomBytes(32), { type: DATA, offset: 4_294_000_000, length: 4_294_967, uncompressedLength: 4_294_967 })
    }
    expect(encodeIndexFile([{ id: randomBytes(32), blobs: full }]).length).toBeLessThan(8 * 1024 * 1024)
  })

  it('pass over fields not known and take fields in any order', () => {
    const id = 'cd'.repeat(32)
    const json = `{"supersedes":["${id}"],"new":{"a":[1]},"packs":[{"blobs":[{"length":40,"type":"tree","new":1,"offset":3,"id":"${id}"}],"id":"${id}"},{"id":"${id}","blobs":null}]}`
    const found: unknown[] = []
    parseIndexFile(Buffer.from(json), 'x', (_, from) => found.push(listed(from)))
    expect(found).toEqual([[{ id, type: TREE, offset: 3, length: 40, uncompressedLength: 0 }], []])
  })

  it('mean the same where a blob begins as usual and then is not', () => {
    const id = 'cd'.repeat(32)
    const usual = `{"id":"${id}","type":"data","offset":3,"length":40,"uncompressed_length":9}`
    const variants = [usual, ...[...usual.matchAll(/[,:]/g)].map(({ index }) => `${usual.slice(0, index + 1)} ${usual.slice(index + 1)}`)]
    variants.push(usual.replace('}', ',"new":[{}]}'), usual.replace(',"offset"', ',"new":1,"offset"'), usual.replace('}', ' }'))
    variants.push(`{"uncompressed_length":9,${usual.slice(1).replace(',"uncompressed_length":9', '')}`)
    for (const blob of variants) {
      const found: unknown[] = []
      parseIndexFile(Buffer.from(`{"packs":[{"id":"${id}","blobs":[${usual},${blob},${usual}]}]}`), 'x', (_, from) =>
        found.push(...listed(from)),
      )
      expect(found, blob).toEqual(Array.from({ length: 3 }, () => ({ id, type: DATA, offset: 3, length: 40, uncompressedLength: 9 })))
    }
  })

  it('refuse rubbish, and every cut or changed byte, with INTEGRITY alone', () => {
    const json = encodeIndexFile([
      { id: randomBytes(32), blobs: records([{ id: randomBytes(32), type: DATA, length: 100, uncompressedLength: 9 }]) },
    ])
    for (let length = 0; length < json.length - 1; length++) {
      expect(() => parseIndexFile(json.subarray(0, length), 'x', () => undefined)).toThrow('index file x')
    }
    fc.assert(
      fc.property(fc.nat(json.length - 1), fc.nat(255), (at, byte) => {
        const changed = Buffer.from(json)
        changed[at] = byte
        integrityOrFine(() => parseIndexFile(changed, 'x', () => undefined))
      }),
      { numRuns: 2000 },
    )
    for (const bad of ['[]', '{"packs":[{"blobs":[]}]}', `{"packs":[{"id":"${'a'.repeat(64)}","blobs":[{}]}]}`, '{"packs":{}}', 'null']) {
      expect(() => parseIndexFile(Buffer.from(bad), 'x', () => undefined)).toThrow(AgentError)
    }
  })
})

describe('trees', () => {
  it('come back as they were written, sorted by the bytes of their names', () => {
    const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).map((text) => text.toWellFormed().replace(/[/\0]/gu, '_'))
    fc.assert(
      fc.property(fc.uniqueArray(name, { maxLength: 12 }), fc.uint8Array({ maxLength: 64 }), (names, some) => {
        const allowed = names.filter((text) => text !== '.' && text !== '..')
        const content = new BlobIds(Buffer.concat([Buffer.from(some), Buffer.alloc(96 - some.length)]))
        const json = encodeTree(allowed.map((text) => node(text, { size: some.length, content })))
        const found = parseTree(json, 't')
        const sorted = [...allowed].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
        expect(found.map((entry) => entry.name)).toEqual(sorted)
        for (const entry of found)
          expect([...(entry.content ?? [])].map((id) => Buffer.from(id).toString('hex'))).toEqual([0, 1, 2].map((at) => content.hex(at)))
        expect(encodeTree(found).toString()).toBe(json.toString())
      }),
      { numRuns: 60 },
    )
  })

  it('are written exactly so', () => {
    const content = new BlobIds(Buffer.alloc(64, 0xab))
    const text = encodeTree([
      node('z&.img', { size: 5, content, mode: 0o600, user: 'root', mtime: '2026-11-22T10:00:00.500Z' }),
      { name: 'dir', type: 'dir', mode: 0o755, mtime: TIME, subtree: 'cd'.repeat(32) },
    ]).toString()
    expect(text).toBe(
      `{"nodes":[{"name":"dir","type":"dir","mode":2147484141,"mtime":"${TIME}","atime":"${TIME}","ctime":"${TIME}","uid":0,"gid":0,"content":null,"subtree":"${'cd'.repeat(32)}"},` +
        `{"name":"z\\u0026.img","type":"file","mode":384,"mtime":"2026-11-22T10:00:00.5Z","atime":"2026-11-22T10:00:00.5Z","ctime":"2026-11-22T10:00:00.5Z","uid":0,"gid":0,"user":"root","size":5,"content":["${'ab'.repeat(32)}","${'ab'.repeat(32)}"]}]}\n`,
    )
    expect(encodeTree([node('empty')]).toString()).toContain('"gid":0,"content":[]}')
    expect(encodeTree([]).toString()).toBe('{"nodes":[]}\n')
  })

  it('refuse names that leave their directory, doubles, and nodes that we do not store', () => {
    for (const bad of ['', '.', '..', 'a/b', 'a\0']) {
      expect(() => encodeTree([node(bad)])).toThrow(expect.objectContaining({ code: 'USAGE' }))
      const json = encodeTree([node('good')])
        .toString()
        .replace('"good"', JSON.stringify(bad.replace('\0', '\\x00')))
      expect(() => parseTree(Buffer.from(json), 't')).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
    }
    expect(() => encodeTree([node('a'), node('a')])).toThrow('twice')
    expect(() => encodeTree([node('f', { type: 'fifo' })])).toThrow('fifo')
    expect(() => encodeTree([node('d', { type: 'dir' })])).toThrow('no tree id')
  })

  it('refuse rubbish with INTEGRITY alone', () => {
    const json = encodeTree([node('a', { content: new BlobIds(2) }), { ...node('b'), type: 'dir', subtree: 'ab'.repeat(32) }])
    fc.assert(
      fc.property(fc.nat(json.length - 1), fc.nat(255), fc.boolean(), (at, byte, cut) => {
        const changed = Buffer.from(cut ? json.subarray(0, at) : json)
        if (!cut) changed[at] = byte
        integrityOrFine(() => parseTree(changed, 't'))
      }),
      { numRuns: 3000 },
    )
    fc.assert(fc.property(fc.json(), (text) => integrityOrFine(() => parseTree(Buffer.from(text), 't'))))
  })
})

describe('snapshots', () => {
  it('are written exactly so and come back', () => {
    const tree = 'ab'.repeat(32)
    const snapshot = {
      time: '2026-11-22T10:00:00.100+01:00',
      tree,
      paths: ['/v<m>'],
      hostname: 'vm',
      username: 'u',
      tags: ['a'],
      parent: tree,
      uid: 0,
      programVersion: 'vcb 1',
    }
    const json = encodeSnapshot(snapshot).toString()
    expect(json).toBe(
      `{"time":"2026-11-22T10:00:00.1+01:00","parent":"${tree}","tree":"${tree}","paths":["/v\\u003cm\\u003e"],"hostname":"vm","username":"u","tags":["a"],"program_version":"vcb 1"}`,
    )
    expect(parseSnapshot(JSON.parse(json), 'x')).toMatchObject({
      id: 'x',
      tree,
      paths: ['/v<m>'],
      tags: ['a'],
      parent: tree,
      time: '2026-11-22T10:00:00.1+01:00',
    })
    expect(() => encodeSnapshot({ ...snapshot, tree: 'nothing' })).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })

  it('refuse rubbish with INTEGRITY alone', () => {
    fc.assert(fc.property(fc.jsonValue(), (value) => integrityOrFine(() => parseSnapshot(value, 'x'))))
    const good = { time: TIME, tree: 'ab'.repeat(32) }
    for (const bad of [
      { ...good, tree: 1 },
      { ...good, tree: 'x' },
      { ...good, paths: 'x' },
      { ...good, tags: [1] },
      { tree: good.tree },
      { ...good, uid: '0' },
    ]) {
      expect(() => parseSnapshot(bad, 'x')).toThrow('Snapshot x cannot be read')
    }
  })
})
