import type { ByteChannel } from '../core/index.ts'
import { outOfStep } from './nbd-error.ts'
import {
  ALLOCATION,
  EXPORT,
  HANDSHAKE,
  INFO,
  LARGEST_PAYLOAD,
  LONGEST_STRING,
  NBD_MAGIC,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  REPLY,
  REPLY_ERROR,
} from './protocol.ts'
import type { ServedExport } from './served-export.ts'

const MOST_OPTIONS = 64
const LONGEST_OPTION = 16 * 1024
/** Our one context. */
export const ALLOCATION_ID = 1
const PREFERRED_BLOCK = 64 * 1024

/** What a client agreed on: the export it took, and how it is answered. */
export type Agreement = { readonly taken: ServedExport; readonly structured: boolean; readonly allocation: boolean }

type Option = { readonly option: number; readonly data: Buffer }
type ExportLookup = (name: string) => ServedExport | undefined

/** The server's half of the handshake; undefined when the client left in order. UNAVAILABLE, INTEGRITY (not the protocol). */
export async function welcome(channel: ByteChannel, exports: readonly ServedExport[]): Promise<Agreement | undefined> {
  const greeting = Buffer.alloc(18)
  greeting.writeBigUInt64BE(NBD_MAGIC, 0)
  greeting.writeBigUInt64BE(OPTION_MAGIC, 8)
  greeting.writeUInt16BE(HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes, 16)
  await channel.write(greeting)
  const flags = (await channel.take(4)).readUInt32BE(0)
  if ((flags & HANDSHAKE.fixedNewstyle) === 0 || (flags & ~(HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes)) !== 0) {
    throw outOfStep(channel.peer, `the handshake flags ${flags}`)
  }
  const talk = new Negotiation(channel, exports, (flags & HANDSHAKE.noZeroes) !== 0)
  for (let count = 0; count < MOST_OPTIONS; count++) {
    const next = await talk.answer(await takeOption(channel))
    if (next === 'left') return undefined
    if (next !== 'more') return next
  }
  throw outOfStep(channel.peer, `more than ${MOST_OPTIONS} options`)
}

async function takeOption(channel: ByteChannel): Promise<Option> {
  const head = await channel.take(16)
  const length = head.readUInt32BE(12)
  if (head.readBigUInt64BE(0) !== OPTION_MAGIC) throw outOfStep(channel.peer, 'what is no option')
  if (length > LONGEST_OPTION) throw outOfStep(channel.peer, `an option of ${length} bytes`)
  return { option: head.readUInt32BE(8), data: await channel.take(length) }
}

class Negotiation {
  readonly #channel: ByteChannel
  readonly #exports: readonly ServedExport[]
  readonly #noZeroes: boolean
  #structured = false
  /** The export whose allocation the client asked to be told. */
  #allocationOf: ServedExport | undefined

  constructor(channel: ByteChannel, exports: readonly ServedExport[], noZeroes: boolean) {
    this.#channel = channel
    this.#exports = exports
    this.#noZeroes = noZeroes
  }

  async answer({ option, data }: Option): Promise<Agreement | 'more' | 'left'> {
    switch (option) {
      case OPTION.exportName:
        return this.#takeByName(data)
      case OPTION.abort:
        await this.#reply(option, REPLY.ack)
        return 'left'
      case OPTION.list:
        return this.#list(option, data)
      case OPTION.info:
      case OPTION.go:
        return this.#tell(option, data)
      case OPTION.structuredReply:
        if (data.length > 0) return this.#refuse(option, REPLY_ERROR.invalid, 'this option has no data')
        this.#structured = true
        await this.#reply(option, REPLY.ack)
        return 'more'
      case OPTION.listMetaContext:
      case OPTION.setMetaContext:
        return this.#metaContext(option, data)
      default:
        return this.#refuse(option, REPLY_ERROR.unsupported, 'not known here')
    }
  }

  /** By its name, or by none where there is only one. */
  readonly #find: ExportLookup = (name) =>
    this.#exports.find((each) => each.name === name) ?? (name === '' && this.#exports.length === 1 ? this.#exports[0] : undefined)

  async #takeByName(data: Buffer): Promise<Agreement> {
    const taken = this.#find(data.toString('utf8'))
    if (taken === undefined) throw outOfStep(this.#channel.peer, 'the name of an export that is not here')
    await this.#channel.write(Buffer.concat([this.#sizeAndFlags(taken), Buffer.alloc(this.#noZeroes ? 0 : 124)]))
    return this.#agree(taken)
  }

  async #list(option: number, data: Buffer): Promise<'more'> {
    if (data.length > 0) return this.#refuse(option, REPLY_ERROR.invalid, 'this option has no data')
    for (const { name, description } of this.#exports) {
      await this.#reply(option, REPLY.server, sized(Buffer.from(name)), Buffer.from(description))
    }
    await this.#reply(option, REPLY.ack)
    return 'more'
  }

  async #tell(option: number, data: Buffer): Promise<Agreement | 'more'> {
    const parser = new Parser(data)
    const name = parser.text()
    const asked = parser.list(() => parser.u16(), parser.u16())
    if (!parser.ended || name === undefined) return this.#refuse(option, REPLY_ERROR.invalid, 'cannot be read')
    const taken = this.#find(name)
    if (taken === undefined) return this.#refuse(option, REPLY_ERROR.unknownExport, 'no such export')
    await this.#reply(option, REPLY.info, u16(INFO.export), this.#sizeAndFlags(taken))
    if (asked.includes(INFO.name)) await this.#reply(option, REPLY.info, u16(INFO.name), Buffer.from(taken.name))
    if (asked.includes(INFO.description)) await this.#reply(option, REPLY.info, u16(INFO.description), Buffer.from(taken.description))
    if (asked.includes(INFO.blockSize)) {
      const sizes = Buffer.alloc(12)
      sizes.writeUInt32BE(1, 0)
      sizes.writeUInt32BE(PREFERRED_BLOCK, 4)
      sizes.writeUInt32BE(LARGEST_PAYLOAD, 8)
      await this.#reply(option, REPLY.info, u16(INFO.blockSize), sizes)
    }
    await this.#reply(option, REPLY.ack)
    return option === OPTION.go ? this.#agree(taken) : 'more'
  }

  async #metaContext(option: number, data: Buffer): Promise<'more'> {
    const setting = option === OPTION.setMetaContext
    if (setting) this.#allocationOf = undefined
    const parser = new Parser(data)
    const name = parser.text()
    const queries = parser.list(() => parser.text(), parser.u32())
    if (!parser.ended || name === undefined || (setting && !this.#structured)) {
      return this.#refuse(option, REPLY_ERROR.invalid, this.#structured ? 'cannot be read' : 'structured replies come first')
    }
    const taken = this.#find(name)
    if (taken === undefined) return this.#refuse(option, REPLY_ERROR.unknownExport, 'no such export')
    if (queries.includes(ALLOCATION) || (!setting && (queries.length === 0 || queries.includes('base:')))) {
      if (setting) this.#allocationOf = taken
      await this.#reply(option, REPLY.metaContext, u32(ALLOCATION_ID), Buffer.from(ALLOCATION))
    }
    await this.#reply(option, REPLY.ack)
    return 'more'
  }

  #agree(taken: ServedExport): Agreement {
    return { taken, structured: this.#structured, allocation: this.#allocationOf === taken }
  }

  #sizeAndFlags(taken: ServedExport): Buffer {
    const info = Buffer.alloc(10)
    info.writeBigUInt64BE(BigInt(taken.size), 0)
    info.writeUInt16BE(EXPORT.hasFlags | EXPORT.readOnly | EXPORT.canMultiConn | (this.#structured ? EXPORT.df : 0), 8)
    return info
  }

  async #refuse(option: number, error: number, text: string): Promise<'more'> {
    await this.#reply(option, error, Buffer.from(text))
    return 'more'
  }

  #reply(option: number, type: number, ...data: readonly Buffer[]): Promise<void> {
    const head = Buffer.alloc(20)
    head.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0)
    head.writeUInt32BE(option, 8)
    head.writeUInt32BE(type, 12)
    head.writeUInt32BE(
      data.reduce((sum, part) => sum + part.length, 0),
      16,
    )
    return this.#channel.write(head, ...data.filter((part) => part.length > 0))
  }
}

/** Cuts an option's data; what does not fit makes `ended` false and everything after it empty. */
class Parser {
  readonly #data: Buffer
  #at = 0
  #broken = false

  constructor(data: Buffer) {
    this.#data = data
  }

  get ended(): boolean {
    return !this.#broken && this.#at === this.#data.length
  }

  u16(): number {
    return this.#cut(2)?.readUInt16BE(0) ?? 0
  }

  u32(): number {
    return this.#cut(4)?.readUInt32BE(0) ?? 0
  }

  text(): string | undefined {
    const length = this.u32()
    return length > LONGEST_STRING ? this.#fail() : this.#cut(length)?.toString('utf8')
  }

  list<T>(item: () => T, count: number): readonly T[] {
    const items: T[] = []
    while (items.length < count && !this.#broken) items.push(item())
    return items
  }

  #cut(length: number): Buffer | undefined {
    if (this.#broken || this.#at + length > this.#data.length) return this.#fail()
    this.#at += length
    return this.#data.subarray(this.#at - length, this.#at)
  }

  #fail(): undefined {
    this.#broken = true
    return undefined
  }
}

const u16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

const sized = (text: Buffer): Buffer => Buffer.concat([u32(text.length), text])
