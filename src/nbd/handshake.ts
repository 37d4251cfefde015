import { AgentError, type ByteChannel } from '../core/index.ts'
import { outOfStep, shorten } from './nbd-error.ts'
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

/** What was agreed on. Sizes in bytes. */
export type ExportInfo = {
  readonly size: number
  readonly readOnly: boolean
  readonly canFlush: boolean
  readonly canTrim: boolean
  readonly canWriteZeroes: boolean
  readonly canMultiConn: boolean
  readonly structured: boolean
  /** The server's id of `base:allocation`; undefined where it has no map of the disk. */
  readonly allocation: number | undefined
  /** What offsets and lengths must be multiples of; a power of two. */
  readonly smallestBlock: number
  readonly largestPayload: number
}

type Reply = { readonly type: number; readonly data: Buffer }

const LONGEST_REPLY = 64 * 1024
const MOST_REPLIES = 1024
const LARGEST_SMALLEST_BLOCK = 64 * 1024

/**
 * The client's half of the fixed newstyle handshake, up to the acknowledged GO. UNAVAILABLE (an old server, a refusal), NOT_FOUND (no such export),
 * INTEGRITY (not the protocol).
 */
export async function negotiate(channel: ByteChannel, exportName: string): Promise<ExportInfo> {
  const { peer } = channel
  const name = Buffer.from(exportName.toWellFormed(), 'utf8')
  if (name.length > LONGEST_STRING) throw new AgentError('USAGE', `An export's name has at most ${LONGEST_STRING} bytes.`)
  const greeting = await channel.take(18)
  if (greeting.readBigUInt64BE(0) !== NBD_MAGIC) throw outOfStep(peer, 'no NBD greeting')
  const flags = greeting.readUInt16BE(16)
  if (greeting.readBigUInt64BE(8) !== OPTION_MAGIC || (flags & HANDSHAKE.fixedNewstyle) === 0) {
    throw new AgentError('UNAVAILABLE', `${peer} speaks an old kind of NBD that cannot negotiate.`, { subject: peer, retry: 'never' })
  }
  const ours = Buffer.alloc(4)
  ours.writeUInt32BE(flags & (HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes))
  await channel.write(ours)

  const ask = async (option: number, data: Buffer): Promise<readonly Reply[]> => {
    await channel.write(encodeOption(option, data))
    return takeReplies(channel, option)
  }
  const structured = (await ask(OPTION.structuredReply, Buffer.alloc(0))).at(-1)?.type === REPLY.ack
  const allocation = structured ? allocationOf(await ask(OPTION.setMetaContext, encodeMetaQuery(name)), peer) : undefined
  return exportInfo(await ask(OPTION.go, encodeGo(name)), { peer, exportName, structured, allocation })
}

function encodeOption(option: number, data: Buffer): Buffer {
  const head = Buffer.alloc(16)
  head.writeBigUInt64BE(OPTION_MAGIC, 0)
  head.writeUInt32BE(option, 8)
  head.writeUInt32BE(data.length, 12)
  return Buffer.concat([head, data])
}

const sized = (text: Buffer): Buffer => {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(text.length)
  return Buffer.concat([length, text])
}

const encodeMetaQuery = (name: Buffer): Buffer => Buffer.concat([sized(name), Buffer.from([0, 0, 0, 1]), sized(Buffer.from(ALLOCATION))])

const encodeGo = (name: Buffer): Buffer => Buffer.concat([sized(name), Buffer.from([0, 1, 0, INFO.blockSize])])

/** All replies of an option; the last is its ACK or an error. */
async function takeReplies(channel: ByteChannel, option: number): Promise<readonly Reply[]> {
  const replies: Reply[] = []
  for (let count = 0; count < MOST_REPLIES; count++) {
    const head = await channel.take(20)
    const length = head.readUInt32BE(16)
    if (head.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC || head.readUInt32BE(8) !== option || length > LONGEST_REPLY) {
      throw outOfStep(channel.peer, `no answer to option ${option}`)
    }
    const reply = { type: head.readUInt32BE(12), data: Buffer.from(await channel.take(length)) }
    replies.push(reply)
    if (reply.type === REPLY.ack || isError(reply)) return replies
  }
  throw outOfStep(channel.peer, `more than ${MOST_REPLIES} answers to option ${option}`)
}

const isError = (reply: Reply): boolean => (reply.type & 0x80000000) !== 0

function allocationOf(replies: readonly Reply[], peer: string): number | undefined {
  if (replies.at(-1)?.type !== REPLY.ack) return undefined
  for (const { type, data } of replies) {
    if (type !== REPLY.metaContext) continue
    if (data.length < 4) throw outOfStep(peer, 'a cut context')
    if (data.toString('utf8', 4) === ALLOCATION) return data.readUInt32BE(0)
  }
  return undefined
}

function exportInfo(
  replies: readonly Reply[],
  known: { readonly peer: string; readonly exportName: string; readonly structured: boolean; readonly allocation: number | undefined },
): ExportInfo {
  const { peer, structured, allocation } = known
  const last = replies.at(-1)
  if (last === undefined || last.type !== REPLY.ack) throw refused(last, known)
  let size: number | undefined
  let flags = 0
  let [smallestBlock, largestPayload] = [1, LARGEST_PAYLOAD]
  for (const { type, data } of replies) {
    if (type !== REPLY.info || data.length < 2) continue
    const kind = data.readUInt16BE(0)
    if (kind === INFO.export && data.length === 12) {
      const bytes = data.readBigUInt64BE(2)
      if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) throw outOfStep(peer, `a disk of ${bytes} bytes`)
      size = Number(bytes)
      flags = data.readUInt16BE(10)
    } else if (kind === INFO.blockSize && data.length === 14) {
      smallestBlock = data.readUInt32BE(2)
      largestPayload = Math.min(LARGEST_PAYLOAD, data.readUInt32BE(10))
    }
  }
  if (size === undefined) throw outOfStep(peer, 'no size of the disk')
  const fits = smallestBlock > 0 && (smallestBlock & (smallestBlock - 1)) === 0 && smallestBlock <= LARGEST_SMALLEST_BLOCK
  if (!fits || largestPayload < smallestBlock) {
    throw outOfStep(peer, `blocks of ${smallestBlock} and payloads of ${largestPayload} bytes`)
  }
  return Object.freeze({
    size,
    readOnly: (flags & EXPORT.readOnly) !== 0,
    canFlush: (flags & EXPORT.flush) !== 0,
    canTrim: (flags & EXPORT.trim) !== 0,
    canWriteZeroes: (flags & EXPORT.writeZeroes) !== 0,
    canMultiConn: (flags & EXPORT.canMultiConn) !== 0,
    structured,
    allocation,
    smallestBlock,
    largestPayload: largestPayload - (largestPayload % smallestBlock),
  })
}

function refused(reply: Reply | undefined, known: { readonly peer: string; readonly exportName: string }): AgentError {
  const { peer, exportName } = known
  const said = shorten(reply?.data.toString('utf8') ?? '')
  const why = said === '' ? `option reply ${((reply?.type ?? 0) & 0x7fffffff) >>> 0}` : said
  const code = reply?.type === REPLY_ERROR.unknownExport ? 'NOT_FOUND' : 'UNAVAILABLE'
  return new AgentError(code, `${peer} does not give the export ${JSON.stringify(exportName)} (${why}).`, { subject: peer, retry: 'never' })
}
