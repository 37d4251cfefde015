import { connect, type Socket } from 'node:net'
import { type Abortable, AgentError, ByteChannel, type Clock, throwIfAborted } from '../core/index.ts'
import { DetachableSocket } from './detachable-socket.ts'
import { parseGreeting } from './greeting.ts'
import { handshake } from './handshake.ts'
import { pinnedTls } from './pinned-tls.ts'
import { type NfcTicket, parseThumbprint, proxyService } from './ticket.ts'

/** Patience, ms. */
const DIAL_MS = 40_000
const LINE_BYTES = 1024
const WORD = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

export type DialOptions = Abortable & {
  /** `nbdssl` encrypts the disk's bytes, `nbd` only the ticket. */
  readonly encrypted: boolean
  readonly clock: Clock
  /** Random bytes from the composition root, for the client's word. */
  readonly random: (size: number) => Uint8Array
}

/**
 * Uses a ticket up: TCP, greeting, TLS with the pinned certificate, authd dialogue, hand-over, handshake. The channel then carries AIO records.
 * Errors: UNAVAILABLE, AUTH (certificate, ticket refused), INTEGRITY (not the protocol), CANCELED. A failed dial leaves no socket.
 */
export async function dialNfc(ticket: NfcTicket, options: DialOptions): Promise<ByteChannel> {
  throwIfAborted(options)
  const { host } = ticket
  const socket = connect({ host, port: ticket.port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 })
  const done = new AbortController()
  const stop = new Promise<never>((_resolve, reject) => {
    const late = (): void =>
      reject(new AgentError('UNAVAILABLE', `${host} did not finish the NFC dialogue within ${DIAL_MS / 1000} s.`, { subject: host }))
    options.clock.sleep(DIAL_MS, { signal: done.signal }).then(late, () => undefined) // ended by success or failure below
    options.signal?.addEventListener('abort', () => reject(options.signal?.reason), { once: true, signal: done.signal })
  })
  try {
    return await Promise.race([talk(socket, ticket, options), stop])
  } catch (error) {
    socket.destroy()
    throwIfAborted(options)
    throw error
  } finally {
    done.abort()
  }
}

async function talk(socket: Socket, ticket: NfcTicket, options: DialOptions): Promise<ByteChannel> {
  const { host } = ticket
  const service = proxyService(ticket, options.encrypted)
  const thumbprint = parseThumbprint(ticket.thumbprint)
  const spoken = { peer: host, protocol: 'NFC' }
  const plain = new ByteChannel(socket, spoken)
  const greeting = parseGreeting(await plain.takeLine(LINE_BYTES), host)
  if (options.encrypted && !greeting.nfcSsl) {
    throw new AgentError('UNAVAILABLE', `${host} offers no encrypted NFC.`, {
      subject: host,
      retry: 'never',
      next: 'Use the transport nbd for this host.',
    })
  }
  plain.release()

  const shim = new DetachableSocket(socket)
  const first = await pinnedTls(shim, host, thumbprint)
  const lines = new ByteChannel(first.stream, spoken)
  const word = greeting.sha256 ? clientWord(options.random) : undefined
  await logIn(lines, ticket, service, word, first.sha256)
  lines.release()
  shim.detach()

  const channel = new ByteChannel(options.encrypted ? (await pinnedTls(socket, host, first.sha256)).stream : socket, spoken)
  socket.resume()
  await handshake(channel, host, word)
  return channel
}

async function logIn(lines: ByteChannel, ticket: NfcTicket, service: string, word: string | undefined, sha256: string): Promise<void> {
  const { host, sessionId } = ticket
  if (!/^[\x21-\x7e]{1,256}$/.test(sessionId))
    throw new AgentError('INTEGRITY', `vSphere gave an NFC ticket that cannot be used.`, { subject: host })
  const say = (line: string): Promise<void> => lines.write(Buffer.from(`${line}\r\n`, 'latin1'))
  await say(`SESSION ${sessionId}`)
  await say('BANNER ')
  const banner = await lines.takeLine(LINE_BYTES)
  if (!banner.startsWith('220')) throw refused(host, 'BANNER', banner)
  if (word !== undefined) {
    await say(`THUMBPRINT_SHA2 ${word}`)
    const answer = await lines.takeLine(LINE_BYTES)
    if (!answer.startsWith('200 ')) throw refused(host, 'THUMBPRINT_SHA2', answer)
    if (parseThumbprint(answer.slice(4)) !== sha256) {
      throw new AgentError('AUTH', `${host} names another certificate than the one it shows on the NFC port.`, { subject: host })
    }
  }
  await say(`PROXY ${service}`)
  const answer = await lines.takeLine(LINE_BYTES)
  if (!answer.startsWith('200 Connect ')) throw refused(host, 'the ticket', answer)
}

const refused = (host: string, what: string, answer: string): AgentError =>
  new AgentError('AUTH', `${host} refused ${what} (${JSON.stringify(answer.slice(0, 120))}).`, {
    subject: host,
    retry: 'now',
    next: 'A ticket works once and for a short time; a new one is asked for when the disk is opened again.',
  })

/** 16 characters without blank or colon. */
const clientWord = (random: (size: number) => Uint8Array): string => [...random(16)].map((byte) => WORD[byte & 63]).join('')
