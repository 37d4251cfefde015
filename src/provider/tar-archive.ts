import { hash } from 'node:crypto'
import { type Abortable, AgentError, MIB } from '../core/index.ts'
import { type ByteSource, openLocalFile } from '../disk/index.ts'
import { MAX_FILE_BYTES, MAX_MANIFEST_BYTES, parseManifest, type StoredManifest } from './manifest.ts'
import { isSafeName, MANIFEST_FILE } from './point-names.ts'
import { indexArchive, type TarEntry } from './tar-index.ts'
import { ARCHIVE_VERSION } from './tar-writer.ts'

const MAX_COMMIT_BYTES = 32 * MIB

/** A complete archive, open. Opening it proves that its writer reached the end. */
export class TarArchive implements AsyncDisposable {
  readonly path: string
  readonly manifest: StoredManifest
  readonly #bytes: ByteSource
  readonly #entries: ReadonlyMap<string, TarEntry>
  readonly #digests: ReadonlyMap<string, string>

  private constructor(
    path: string,
    bytes: ByteSource,
    entries: ReadonlyMap<string, TarEntry>,
    digests: ReadonlyMap<string, string>,
    manifest: StoredManifest,
  ) {
    this.path = path
    this.#bytes = bytes
    this.#entries = entries
    this.#digests = digests
    this.manifest = manifest
  }

  /** INTEGRITY when the archive is truncated, was not committed, or its parts disagree; CONFIG when a newer vcb wrote it. */
  static async open(path: string, options?: Abortable): Promise<TarArchive> {
    return TarArchive.read(await openLocalFile(path), options)
  }

  /** As `open`, of `bytes`, which belong to the archive afterwards; when it fails they are closed. */
  static async read(bytes: ByteSource, options?: Abortable): Promise<TarArchive> {
    const path = bytes.name
    try {
      const listed = await indexArchive(bytes, options)
      const [directory] = listed[0]?.name.split('/') ?? []
      const entries = new Map<string, TarEntry>()
      for (const entry of listed) {
        const [first, name, ...deeper] = entry.name.split('/')
        if (first !== directory || name === undefined || deeper.length > 0 || !isSafeName(name) || entries.has(name)) {
          throw refused(path, `holds ${JSON.stringify(entry.name.slice(0, 200))}, which is not part of a restore point`)
        }
        entries.set(name, entry)
      }
      const commit = entries.get('commit.json')
      if (commit === undefined || listed.at(-1) !== commit) throw refused(path, 'was not committed: its writer did not reach the end')
      const digests = parseCommit(await readWhole(bytes, commit, MAX_COMMIT_BYTES, options), listed.slice(0, -1), path)
      const archive = (manifest: StoredManifest): TarArchive => new TarArchive(path, bytes, entries, digests, manifest)
      const manifestEntry = entries.get(MANIFEST_FILE)
      if (manifestEntry === undefined) throw refused(path, 'has no manifest')
      const manifestBytes = await verified(bytes, manifestEntry, digests, MAX_MANIFEST_BYTES, options)
      return archive(parseManifest(manifestBytes, path))
    } catch (error) {
      await bytes[Symbol.asyncDispose]()
      throw error
    }
  }

  has(name: string): boolean {
    return this.#entries.has(name)
  }

  /** A small file, verified. NOT_FOUND, INTEGRITY. */
  async file(name: string, options?: Abortable): Promise<Uint8Array> {
    return verified(this.#bytes, this.#entry(name), this.#digests, MAX_FILE_BYTES, options)
  }

  /** Everything a disk's data needs to be read: its entry, the digests of its data, what the commit says of its map. */
  part(name: string): { readonly bytes: ByteSource; readonly entry: TarEntry; readonly sha256: string } {
    return { bytes: this.#bytes, entry: this.#entry(name), sha256: this.#digests.get(this.#entry(name).name) ?? '' }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#bytes[Symbol.asyncDispose]()
  }

  #entry(name: string): TarEntry {
    const entry = this.#entries.get(name)
    if (entry === undefined) throw new AgentError('NOT_FOUND', `The archive ${this.path} has no ${name}.`, { subject: this.path })
    return entry
  }
}

/** Digests by entry name. */
function parseCommit(data: Uint8Array, listed: readonly TarEntry[], path: string): ReadonlyMap<string, string> {
  let json: unknown
  try {
    json = JSON.parse(Buffer.from(data).toString('utf8'))
  } catch (error) {
    throw refused(path, 'has a commit entry that is not JSON', error)
  }
  const { archiveVersion, entries } = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>
  if (typeof archiveVersion === 'number' && archiveVersion > ARCHIVE_VERSION) {
    throw new AgentError('CONFIG', `The archive ${path} has version ${archiveVersion}; this vcb reads up to ${ARCHIVE_VERSION}.`, {
      subject: path,
      next: 'Use the newer vcb that wrote it.',
    })
  }
  const digests = new Map<string, string>()
  const committed: unknown[] = Array.isArray(entries) ? entries : []
  for (const [index, entry] of listed.entries()) {
    const { name, size, sha256 } = (committed[index] ?? {}) as Record<string, unknown>
    if (name !== entry.name || size !== entry.size || typeof sha256 !== 'string')
      throw refused(path, 'does not hold the entries its commit names')
    digests.set(entry.name, sha256)
  }
  if (archiveVersion !== ARCHIVE_VERSION || committed.length !== listed.length)
    throw refused(path, 'does not hold the entries its commit names')
  return digests
}

async function verified(
  bytes: ByteSource,
  entry: TarEntry,
  digests: ReadonlyMap<string, string>,
  most: number,
  options?: Abortable,
): Promise<Buffer> {
  const data = await readWhole(bytes, entry, most, options)
  if (hash('sha256', data) !== digests.get(entry.name)) throw refused(bytes.name, `has a damaged ${entry.name}`)
  return data
}

async function readWhole(bytes: ByteSource, entry: TarEntry, most: number, options?: Abortable): Promise<Buffer> {
  if (entry.size > most || entry.realSize !== undefined) throw refused(bytes.name, `has a ${entry.name} of ${entry.size} bytes`)
  const data = Buffer.alloc(entry.size)
  await bytes.read(entry.offset, data, options)
  return data
}

const refused = (path: string, what: string, cause?: unknown): AgentError =>
  new AgentError('INTEGRITY', `The archive ${path} ${what}.`, { subject: path, cause })
