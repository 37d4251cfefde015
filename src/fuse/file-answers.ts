import { type Abortable, type FileReader, readableMode } from '../core/index.ts'
import { type Answer, type Answers, nameOf, numberOf, Refusal } from './answers.ts'
import {
  type Attributes,
  attrOut,
  directoryEntry,
  entryOut,
  ERRNO,
  initOut,
  KEEP_CACHE,
  MOST_READ,
  OPCODE,
  openOut,
  OUT_HEADER,
  ROOT_NODE,
  statfsOut,
} from './protocol.ts'
import type { FuseRequest } from './requests.ts'
import type { FileActivity, ServedFile } from './served-file.ts'

const SEEK_DATA = 3
const SEEK_HOLE = 4

/** What one directory with files in it answers. Holds no state but that of the files. */
export class FileAnswers implements Answers {
  readonly #files: readonly ServedFile[]
  readonly #listed: readonly ServedFile[]
  readonly #root: Attributes
  readonly #owner: { readonly user: number; readonly group: number }
  readonly #permissions: number

  /**
   * `reader` gets files and directory beside `owner`, which must be able to pass by permissions: root. `unlisted`: the directory looks empty, and its files are
   * there for those who know their names.
   */
  constructor(
    files: readonly ServedFile[],
    modified: Date,
    owner: { readonly user: number; readonly group: number },
    { reader, unlisted = false }: { readonly reader?: FileReader | undefined; readonly unlisted?: boolean | undefined } = {},
  ) {
    this.#files = files
    this.#listed = unlisted ? [] : files
    this.#owner = reader === undefined ? owner : { user: reader.user ?? owner.user, group: reader.group }
    this.#permissions = readableMode(reader)
    const permissions = reader === undefined ? 0o500 : 0o550
    this.#root = { node: ROOT_NODE, directory: true, size: 4096, allocated: 0, modified, permissions, ...this.#owner }
  }

  get activity(): readonly FileActivity[] {
    return this.#files.map((file) => file.activity)
  }

  async answer(request: FuseRequest, options: Abortable): Promise<Answer | undefined> {
    const { opcode, node, body } = request
    switch (opcode) {
      case OPCODE.init:
        return { body: initOut(body.readUInt32LE(12), body.readUInt32LE(8)) }
      case OPCODE.lookup:
        return { body: entryOut(this.#attributes(this.#named(node, body))) }
      case OPCODE.getattr:
        return { body: attrOut(node === ROOT_NODE ? this.#root : this.#attributes(this.#at(node))) }
      case OPCODE.statfs:
        return {
          body: statfsOut(
            this.#files.reduce((sum, { size }) => sum + size, 0),
            this.#files.length,
          ),
        }
      case OPCODE.open:
        return this.#open(this.#at(node), body.readUInt32LE(0))
      case OPCODE.release:
        this.#at(node).released()
        return { body: Buffer.alloc(0) }
      case OPCODE.read:
        return this.#read(this.#at(node), body, options)
      case OPCODE.write:
        return this.#write(this.#at(node), body, options)
      case OPCODE.lseek:
        return this.#seek(this.#at(node), body, options)
      case OPCODE.opendir:
        if (node !== ROOT_NODE) throw new Refusal(ERRNO.ENOTDIR)
        return { body: openOut(0, 0) }
      case OPCODE.readdir:
        return this.#list(node, body)
      case OPCODE.releasedir:
      case OPCODE.flush:
      case OPCODE.fsync:
      case OPCODE.fsyncdir:
      case OPCODE.destroy:
        return { body: Buffer.alloc(0) }
      case OPCODE.forget:
      case OPCODE.batchForget:
        return undefined
      case OPCODE.fallocate:
        throw new Refusal(ERRNO.EOPNOTSUPP)
      default:
        throw new Refusal(ERRNO.ENOSYS)
    }
  }

  #attributes(file: ServedFile): Attributes {
    return file.attributes(this.#owner.user, this.#owner.group, this.#permissions)
  }

  #at(node: number): ServedFile {
    if (node === ROOT_NODE) throw new Refusal(ERRNO.EISDIR)
    const file = this.#files[node - ROOT_NODE - 1]
    if (file === undefined) throw new Refusal(ERRNO.ENOENT)
    return file
  }

  #named(node: number, name: Buffer): ServedFile {
    if (node !== ROOT_NODE) throw new Refusal(ERRNO.ENOTDIR)
    const wanted = nameOf(name)
    const file = this.#files.find((each) => each.name === wanted)
    if (file === undefined) throw new Refusal(ERRNO.ENOENT)
    return file
  }

  #open(file: ServedFile, flags: number): Answer {
    if ((flags & 3) !== 0 && !file.writable) throw new Refusal(ERRNO.EROFS)
    file.opened()
    return { body: openOut(file.node, file.writable ? 0 : KEEP_CACHE) }
  }

  async #read(file: ServedFile, body: Buffer, options: Abortable): Promise<Answer> {
    const offset = numberOf(body.readBigUInt64LE(8))
    const length = Math.max(0, Math.min(body.readUInt32LE(16), MOST_READ, file.size - offset))
    const message = Buffer.allocUnsafe(OUT_HEADER + length)
    if (length > 0) await file.read(offset, message.subarray(OUT_HEADER), options)
    return { message }
  }

  async #write(file: ServedFile, body: Buffer, options: Abortable): Promise<Answer> {
    if (!file.writable) throw new Refusal(ERRNO.EROFS)
    const offset = numberOf(body.readBigUInt64LE(8))
    const length = body.readUInt32LE(16)
    if (40 + length > body.length) throw new Refusal(ERRNO.EINVAL)
    if (offset + length > file.size) throw new Refusal(ERRNO.ENOSPC)
    await file.write(offset, body.subarray(40, 40 + length), options)
    const written = Buffer.alloc(8)
    written.writeUInt32LE(length, 0)
    return { body: written }
  }

  async #seek(file: ServedFile, body: Buffer, options: Abortable): Promise<Answer> {
    const whence = body.readUInt32LE(16)
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new Refusal(ERRNO.EINVAL)
    const found = await file.seek(numberOf(body.readBigUInt64LE(8)), whence === SEEK_DATA ? 'data' : 'hole', options)
    if (found === undefined) throw new Refusal(ERRNO.ENXIO)
    const place = Buffer.alloc(8)
    place.writeBigUInt64LE(BigInt(found), 0)
    return { body: place }
  }

  #list(node: number, body: Buffer): Answer {
    if (node !== ROOT_NODE) throw new Refusal(ERRNO.ENOTDIR)
    const from = numberOf(body.readBigUInt64LE(8))
    let room = body.readUInt32LE(16)
    const names = [
      { name: '.', node: ROOT_NODE, directory: true },
      { name: '..', node: ROOT_NODE, directory: true },
      ...this.#listed.map((file) => ({ name: file.name, node: file.node, directory: false })),
    ]
    const entries: Buffer[] = []
    for (const [index, entry] of names.entries()) {
      if (index < from) continue
      const record = directoryEntry(entry.node, entry.name, index + 1, entry.directory)
      if (record.length > room) break
      room -= record.length
      entries.push(record)
    }
    return { body: Buffer.concat(entries) }
  }
}
