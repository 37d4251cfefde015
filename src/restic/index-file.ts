import { type BlobPlace, BlobRecords, DATA, TREE } from './blob-records.ts'
import { ID_BYTES, idHex } from './ids.ts'
import { JsonScanner } from './json-scanner.ts'
import { SEAL_OVERHEAD } from './sealing.ts'

/** Blobs of one index file, so that it stays below 8 MiB of JSON (at most 175 bytes a blob). */
export const INDEX_FILE_BLOBS = 40_000

/** JSON of an index file; `packs` with their blobs. */
export function encodeIndexFile(packs: readonly { readonly id: Uint8Array; readonly blobs: BlobRecords }[]): Buffer {
  const parts: string[] = []
  for (const { id, blobs } of packs) {
    const entries: string[] = []
    for (let index = 0; index < blobs.count; index++) entries.push(encodeBlob(blobs.id(index), blobs.place(index)))
    parts.push(`{"id":"${idHex(id)}","blobs":[${entries.join(',')}]}`)
  }
  return Buffer.from(`{"packs":[${parts.join(',')}]}\n`, 'latin1')
}

function encodeBlob(id: Uint8Array, place: BlobPlace): string {
  const uncompressed = place.uncompressedLength === 0 ? '' : `,"uncompressed_length":${place.uncompressedLength}`
  const type = place.type === TREE ? 'tree' : 'data'
  return `{"id":"${idHex(id)}","type":"${type}","offset":${place.offset},"length":${place.length}${uncompressed}}`
}

/**
 * Parses an index file and gives each pack to `onPack`; the records are reused for the next. `supersedes` is passed over, as restic does:
 * an index file counts as long as it exists. INTEGRITY for anything out of form.
 */
export function parseIndexFile(json: Buffer, name: string, onPack: (id: Uint8Array, blobs: BlobRecords) => void): void {
  const scan = new JsonScanner(json, `index file ${name}`)
  const blobs = new BlobRecords()
  scan.beginObject()
  for (let key = scan.nextKey(); key !== undefined; key = scan.nextKey()) {
    if (key !== 'packs') scan.skip()
    else if (!scan.null()) {
      scan.beginArray()
      while (scan.nextElement()) {
        blobs.clear()
        onPack(readPack(scan, blobs), blobs)
      }
    }
  }
  scan.end()
}

function readPack(scan: JsonScanner, blobs: BlobRecords): Uint8Array {
  const id = new Uint8Array(ID_BYTES)
  const blobId = new Uint8Array(ID_BYTES)
  let named = false
  scan.beginObject()
  for (let key = scan.nextKey(); key !== undefined; key = scan.nextKey()) {
    if (key === 'id') {
      scan.id(id, 0)
      named = true
    } else if (key === 'blobs' && !scan.null()) {
      scan.beginArray()
      while (scan.nextElement()) readBlob(scan, blobs, blobId)
    } else if (key !== 'blobs') scan.skip()
  }
  if (!named) scan.fail('a pack without an id')
  return id
}

/** As restic and we write it, character by character: a third of the time. Nothing is passed when it is not so. */
function readUsualBlob(scan: JsonScanner, blobs: BlobRecords, id: Uint8Array): boolean {
  const start = scan.position
  if (scan.pass(USUAL.id)) {
    scan.id(id, 0)
    const tree = scan.pass(USUAL.tree)
    if (tree || scan.pass(USUAL.data)) {
      const offset = scan.uint()
      if (scan.pass(USUAL.length)) {
        const length = scan.uint()
        const uncompressedLength = scan.pass(USUAL.uncompressed) ? scan.uint() : 0
        if (scan.pass(USUAL.end)) {
          addBlob(scan, blobs, id, { type: tree ? TREE : DATA, offset, length, uncompressedLength })
          return true
        }
      }
    }
  }
  scan.goBack(start)
  return false
}

/** `id`: 32 bytes to work in. */
function readBlob(scan: JsonScanner, blobs: BlobRecords, id: Uint8Array): void {
  if (readUsualBlob(scan, blobs, id)) return
  let named = false
  let type: string | undefined
  let offset: number | undefined
  let length: number | undefined
  let uncompressedLength = 0
  scan.beginObject()
  for (let key = scan.nextKey(); key !== undefined; key = scan.nextKey()) {
    if (key === 'id') {
      scan.id(id, 0)
      named = true
    } else if (key === 'type') type = scan.string()
    else if (key === 'offset') offset = scan.uint()
    else if (key === 'length') length = scan.uint()
    else if (key === 'uncompressed_length') uncompressedLength = scan.uint()
    else scan.skip()
  }
  if (!named || offset === undefined || length === undefined) scan.fail('a blob without id, offset or length')
  if (type !== 'data' && type !== 'tree') scan.fail('a blob that is neither data nor tree')
  addBlob(scan, blobs, id, { type: type === 'tree' ? TREE : DATA, offset, length, uncompressedLength })
}

function addBlob(scan: JsonScanner, blobs: BlobRecords, id: Uint8Array, place: BlobPlace): void {
  const { offset, length, uncompressedLength } = place
  if (length < SEAL_OVERHEAD || offset + length > 0xffff_ffff || uncompressedLength > 0xffff_ffff) scan.fail('a blob of impossible size')
  blobs.add(id, place)
}

const text = (characters: string): Uint8Array => new TextEncoder().encode(characters)
const USUAL = {
  id: text('{"id":'),
  data: text(',"type":"data","offset":'),
  tree: text(',"type":"tree","offset":'),
  length: text(',"length":'),
  uncompressed: text(',"uncompressed_length":'),
  end: text('}'),
}
