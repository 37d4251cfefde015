import { hash } from 'node:crypto'
import { zstdCompressSync } from 'node:zlib'
import { type Abortable, AgentError } from '../core/index.ts'
import type { Backend, FileKind, FileRef, SaveOptions } from './backend.ts'
import { IV_BYTES, seal, type SealKey, unseal } from './sealing.ts'
import { decompressUpTo } from './zstd-codec.ts'

/** Version byte in front of compressed JSON. */
const ZSTD_JSON = 2
const MAX_PLAIN_BYTES = 512 * 1024 * 1024

/** The repository's sealed JSON files: index, snapshots, locks, configuration. A file's name is the digest of its stored bytes. */
export class SealedFiles {
  readonly backend: Backend
  readonly #key: SealKey
  readonly #random: (size: number) => Uint8Array

  constructor(backend: Backend, key: SealKey, random: (size: number) => Uint8Array) {
    this.backend = backend
    this.#key = key
    this.#random = random
  }

  /** Stores JSON, compressed; returns the file's name. */
  async save(kind: FileKind, json: Uint8Array, options?: SaveOptions): Promise<string> {
    const { name, bytes } = this.prepare(json)
    await this.backend.save({ kind, name }, bytes, options)
    return name
  }

  /** What `save` would store, and under which name: for those who must know it before it is there. Each call gives another name. */
  prepare(json: Uint8Array): { readonly name: string; readonly bytes: Uint8Array } {
    const plain = Buffer.concat([Buffer.from([ZSTD_JSON]), zstdCompressSync(json)])
    const bytes = seal(this.#key, this.#random(IV_BYTES), plain)
    return { name: hash('sha256', bytes), bytes }
  }

  /** Stores the configuration, which restic never compresses. */
  async saveConfig(file: FileRef, json: Uint8Array, options?: Abortable): Promise<void> {
    await this.backend.save(file, seal(this.#key, this.#random(IV_BYTES), json), options)
  }

  /** The JSON text of a file, verified: name, MAC, decompression bounded. INTEGRITY naming the file; NOT_FOUND. */
  async load(file: FileRef, options?: Abortable): Promise<Buffer> {
    const bytes = await this.backend.load(file, options)
    const what = file.kind === 'config' ? 'configuration of the repository' : `${file.kind} file ${file.name}`
    if (file.kind !== 'config' && hash('sha256', bytes) !== file.name) {
      throw new AgentError('INTEGRITY', `The ${what} of ${this.backend.url} is damaged: its content does not match its name.`, {
        subject: file.name,
      })
    }
    const plain = unseal(this.#key, bytes, what)
    const first = plain[0]
    if (first === 0x7b || first === 0x5b) return plain
    if (first !== ZSTD_JSON) throw new AgentError('INTEGRITY', `The ${what} is in an encoding that is not known.`, { subject: file.name })
    const json = decompressUpTo(plain.subarray(1), MAX_PLAIN_BYTES)
    if (json === undefined) throw new AgentError('INTEGRITY', `The ${what} cannot be decompressed.`, { subject: file.name })
    return json
  }

  /** The parsed JSON of a small file. INTEGRITY. */
  async loadJson(file: FileRef, options?: Abortable): Promise<unknown> {
    const text = await this.load(file, options)
    try {
      return JSON.parse(text.toString('utf8'))
    } catch (error) {
      throw new AgentError('INTEGRITY', `The ${file.kind} file ${file.name} does not hold JSON.`, { subject: file.name, cause: error })
    }
  }
}
