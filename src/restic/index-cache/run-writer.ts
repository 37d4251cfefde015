import { join } from 'node:path'
import { openOutput, type OutputFile, removeFile } from '../../core/index.ts'
import { RECORD_WORDS } from '../blob-records.ts'
import { ID_BYTES } from '../ids.ts'
import { PAGE_FENCES, PAGE_PACKS, PAGE_RECORDS, type RunFacts, TREE_BIT } from './index-run.ts'
import { PAGE_BYTES, PAGE_WORDS, sealPage } from './page.ts'
import type { RecordStream } from './record-streams.ts'

/** Pages written at once: 1 MiB. */
const PAGES = 256

/** Merges streams into a new run; durable when it resolves, and removed when it fails. The event loop turns with every MiB. */
export async function writeRun(
  directory: string,
  run: Pick<RunFacts, 'name' | 'nonce' | 'files'>,
  streams: readonly RecordStream[],
): Promise<RunFacts> {
  const path = join(directory, run.name)
  try {
    await using output = await openOutput(path, 'wx')
    const pages = new PageWriter(output, run.nonce)
    const fences: number[] = []
    let packs = 0
    const firstPacks = new Map<RecordStream, number>()
    for (const stream of streams) {
      firstPacks.set(stream, packs)
      packs += stream.packs
    }
    let records = 0
    const heads = streams.filter((stream) => stream.next())
    for (let at = (heads.length >> 1) - 1; at >= 0; at--) sink(heads, at)
    for (let stream = heads[0]; stream !== undefined; stream = heads[0]) {
      const { words, at } = stream
      if (pages.entries === PAGE_RECORDS) await pages.end()
      if (pages.entries === 0) fences.push(words[at] ?? 0)
      const to = pages.place(RECORD_WORDS)
      for (let word = 0; word < RECORD_WORDS; word++) pages.words[to + word] = words[at + word] ?? 0
      pages.words[to + 8] = renumbered(words[at + 8] ?? 0, firstPacks.get(stream) ?? 0)
      records++
      if (!stream.next()) {
        const last = heads.pop()
        if (last === undefined || last === stream) continue
        heads[0] = last
      }
      sink(heads, 0)
    }
    if (pages.entries > 0) await pages.end()
    for (const stream of streams) {
      for (let pack = 0; pack < stream.packs; pack++) {
        if (pages.entries === PAGE_PACKS) await pages.end()
        const to = pages.place(ID_BYTES / 4)
        pages.bytes.set(stream.packId(pack), to * 4)
      }
    }
    if (pages.entries > 0) await pages.end()
    for (const fence of fences) {
      if (pages.entries === PAGE_FENCES) await pages.end()
      pages.words[pages.place(1)] = fence
    }
    if (pages.entries > 0) await pages.end()
    await pages.flush()
    await output.sync()
    return { ...run, records, packs }
  } catch (error) {
    await removeFile(path)
    throw error
  }
}

const renumbered = (owner: number, first: number): number =>
  owner >= TREE_BIT ? ((first + (owner % TREE_BIT)) | TREE_BIT) >>> 0 : first + owner

/** Puts the stream at `at` of a heap where it belongs. */
function sink(heads: RecordStream[], at: number): void {
  for (;;) {
    const child = 2 * at + 1
    let least = before(heads[child], heads[at]) ? child : at
    if (before(heads[child + 1], heads[least])) least = child + 1
    if (least === at) return
    const moved = heads[at]
    const other = heads[least]
    if (moved === undefined || other === undefined) return
    heads[at] = other
    heads[least] = moved
    at = least
  }
}

function before(a: RecordStream | undefined, b: RecordStream | undefined): boolean {
  if (a === undefined || b === undefined) return false
  for (let word = 0; word < 8; word++) {
    const difference = (a.words[a.at + word] ?? 0) - (b.words[b.at + word] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}

/** Fills one page after the other and writes many at once. */
class PageWriter {
  readonly words = new Uint32Array(PAGES * PAGE_WORDS)
  readonly bytes = new Uint8Array(this.words.buffer)
  readonly #output: OutputFile
  readonly #nonce: number
  #page = 0
  #written = 0
  #entries = 0

  constructor(output: OutputFile, nonce: number) {
    this.#output = output
    this.#nonce = nonce
  }

  /** In the page being filled. */
  get entries(): number {
    return this.#entries
  }

  /** Where in `words` the next entry, of `size` words, stands. */
  place(size: number): number {
    return (this.#page - this.#written) * PAGE_WORDS + this.#entries++ * size
  }

  async end(): Promise<void> {
    const slot = this.#page - this.#written
    const words = this.words.subarray(slot * PAGE_WORDS, (slot + 1) * PAGE_WORDS)
    const bytes = this.bytes.subarray(slot * PAGE_BYTES, (slot + 1) * PAGE_BYTES)
    sealPage(words, bytes, { count: this.#entries, number: this.#page, nonce: this.#nonce })
    this.#page++
    this.#entries = 0
    if (this.#page - this.#written === PAGES) await this.flush()
  }

  async flush(): Promise<void> {
    await this.#output.write(this.bytes.subarray(0, (this.#page - this.#written) * PAGE_BYTES))
    this.words.fill(0)
    this.#written = this.#page
  }
}
