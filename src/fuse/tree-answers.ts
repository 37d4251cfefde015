import { type Abortable, type AgentError, type Clock, toAgentError } from '../core/index.ts'
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
import type { FileActivity } from './served-file.ts'
import { TREE_ROOT, type TreeAttributes, type TreeToServe } from './served-tree.ts'

type Owner = { readonly user: number; readonly group: number }

/** What a tree answers: read-only, every file of one owner. */
export class TreeAnswers implements Answers {
  readonly #tree: TreeToServe
  readonly #name: string
  readonly #owner: Owner
  readonly #clock: Clock
  #openHandles = 0
  #opens = 0
  #readBytes = 0
  #readError: AgentError | undefined
  #readErrors = 0
  #lastUsedMs: number | undefined

  constructor(tree: TreeToServe, name: string, owner: Owner, clock: Clock) {
    this.#tree = tree
    this.#name = name
    this.#owner = owner
    this.#clock = clock
  }

  get activity(): readonly FileActivity[] {
    return [
      {
        name: this.#name,
        openHandles: this.#openHandles,
        opens: this.#opens,
        readBytes: this.#readBytes,
        readTo: 0,
        readError: this.#readError,
        readErrors: this.#readErrors,
        writeError: undefined,
        lastUsedMs: this.#lastUsedMs,
      },
    ]
  }

  async answer(request: FuseRequest, options: Abortable): Promise<Answer | undefined> {
    this.#lastUsedMs = this.#clock.monotonicMs()
    try {
      return await this.#answer(request, options)
    } catch (error) {
      // What was refused, or canceled by its reader, is no error of the tree.
      if (!(error instanceof Refusal) && options.signal?.aborted !== true) {
        this.#readErrors++
        this.#readError ??= toAgentError(error)
      }
      throw error
    }
  }

  async #answer({ opcode, node, body }: FuseRequest, options: Abortable): Promise<Answer | undefined> {
    switch (opcode) {
      case OPCODE.init:
        return { body: initOut(body.readUInt32LE(12), body.readUInt32LE(8)) }
      case OPCODE.lookup:
        return this.#lookUp(node, body, options)
      case OPCODE.getattr:
        return { body: attrOut(this.#shown(node, await this.#tree.attributes(node, options))) }
      case OPCODE.statfs:
        return { body: statfsOut(this.#tree.size, 0) }
      case OPCODE.open:
        return this.#open(node, body.readUInt32LE(0), options)
      case OPCODE.release:
        this.#openHandles--
        return EMPTY
      case OPCODE.read:
        return this.#read(node, body, options)
      case OPCODE.opendir:
        if (!(await this.#tree.attributes(node, options)).directory) throw new Refusal(ERRNO.ENOTDIR)
        this.#openHandles++
        return { body: openOut(0, 0) }
      case OPCODE.releasedir:
        this.#openHandles--
        return EMPTY
      case OPCODE.readdir:
        return this.#list(node, body, options)
      case OPCODE.flush:
      case OPCODE.fsync:
      case OPCODE.fsyncdir:
      case OPCODE.destroy:
        return EMPTY
      case OPCODE.forget:
      case OPCODE.batchForget:
        return undefined
      case OPCODE.write:
      case OPCODE.fallocate:
        throw new Refusal(ERRNO.EROFS)
      default:
        throw new Refusal(ERRNO.ENOSYS)
    }
  }

  #shown(node: number, attributes: TreeAttributes): Attributes {
    return { node, ...attributes, ...this.#owner }
  }

  async #lookUp(node: number, body: Buffer, options: Abortable): Promise<Answer> {
    const found = await this.#tree.find(node, nameOf(body), options)
    if (found === undefined) throw new Refusal(ERRNO.ENOENT)
    return { body: entryOut(this.#shown(found.node, found)) }
  }

  async #open(node: number, flags: number, options: Abortable): Promise<Answer> {
    if ((await this.#tree.attributes(node, options)).directory) throw new Refusal(ERRNO.EISDIR)
    if ((flags & 3) !== 0) throw new Refusal(ERRNO.EROFS)
    this.#openHandles++
    this.#opens++
    return { body: openOut(node, KEEP_CACHE) }
  }

  async #read(node: number, body: Buffer, options: Abortable): Promise<Answer> {
    const offset = numberOf(body.readBigUInt64LE(8))
    const { directory, size } = await this.#tree.attributes(node, options)
    if (directory) throw new Refusal(ERRNO.EISDIR)
    const length = Math.max(0, Math.min(body.readUInt32LE(16), MOST_READ, size - offset))
    const message = Buffer.allocUnsafe(OUT_HEADER + length)
    if (length > 0) await this.#tree.read(node, offset, message.subarray(OUT_HEADER), options)
    this.#readBytes += length
    return { message }
  }

  async #list(node: number, body: Buffer, options: Abortable): Promise<Answer> {
    const from = numberOf(body.readBigUInt64LE(8))
    let room = body.readUInt32LE(16)
    const own = [
      { name: '.', node, directory: true },
      { name: '..', node: TREE_ROOT, directory: true },
    ]
    const entries = await this.#tree.list(node, options)
    const records: Buffer[] = []
    for (let at = from; at < own.length + entries.length; at++) {
      const entry = own[at] ?? entries[at - own.length]
      if (entry === undefined) break
      const record = directoryEntry(entry.node, entry.name, at + 1, entry.directory)
      if (record.length > room) break
      room -= record.length
      records.push(record)
    }
    return { body: Buffer.concat(records) }
  }
}

const EMPTY: Answer = { body: Buffer.alloc(0) }

// The kernel's root is the tree's.
TREE_ROOT satisfies typeof ROOT_NODE
