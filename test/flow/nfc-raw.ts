import { connect as connectTcp, type Socket } from 'node:net'
import { duplexPair } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import type { NfcTicket } from '../../src/nfc/index.ts'

/** Exact reads from a stream, and plain writes: all a test needs to speak a protocol byte by byte. */
export class RawWire {
  readonly #stream: Socket
  #waiting: Buffer = Buffer.alloc(0)
  #ended = false
  #wake: (() => void) | undefined

  constructor(stream: Socket) {
    this.#stream = stream
    stream.on('data', this.#onData).on('close', this.#onEnd).on('end', this.#onEnd).on('error', this.#onEnd)
    stream.resume()
  }

  readonly #onData = (piece: Buffer): void => {
    this.#waiting = this.#waiting.length === 0 ? piece : Buffer.concat([this.#waiting, piece])
    this.#wake?.()
  }
  readonly #onEnd = (): void => {
    this.#ended = true
    this.#wake?.()
  }

  /** So many bytes, or fewer when the other side ends. */
  async take(bytes: number): Promise<Buffer> {
    while (this.#waiting.length < bytes && !this.#ended) await this.#more()
    const taken = this.#waiting.subarray(0, bytes)
    this.#waiting = this.#waiting.subarray(bytes)
    return taken
  }

  async line(): Promise<string> {
    while (!this.#waiting.includes(0x0a) && !this.#ended) await this.#more()
    return (await this.take(this.#waiting.indexOf(0x0a) + 1)).toString('latin1').trim()
  }

  /** Everything until the other side ends. */
  async rest(): Promise<Buffer> {
    while (!this.#ended) await this.#more()
    return this.take(this.#waiting.length)
  }

  write(bytes: Uint8Array | string): Promise<void> {
    return new Promise((resolve) => this.#stream.write(bytes, () => resolve()))
  }

  /** Sends nothing more; the other side may still. */
  end(): void {
    this.#stream.end()
  }

  /** Leaves the stream to somebody else. */
  release(): Socket {
    this.#stream.off('data', this.#onData).off('close', this.#onEnd).off('end', this.#onEnd).off('error', this.#onEnd)
    return this.#stream
  }

  destroy(): void {
    this.#stream.destroy()
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}

/** The socket behind the granted PROXY of `nbd`: the client speaks classic frames next, in clear. Word of frame 43: `word`. */
export async function rawNfc(ticket: NfcTicket, word: string): Promise<RawWire> {
  const socket = connectTcp(ticket.port, ticket.host).on('error', () => undefined)
  const clear = new RawWire(socket)
  await clear.line()
  clear.release()
  const [inner, outer] = duplexPair()
  const inward = (piece: Buffer): void => void outer.write(piece)
  const outward = (piece: Buffer): void => void socket.write(piece)
  socket.on('data', inward)
  outer.on('data', outward)
  const tls = connectTls({ socket: inner, rejectUnauthorized: false, maxVersion: 'TLSv1.2' }).on('error', () => undefined)
  await new Promise((resolve) => tls.once('secureConnect', resolve))
  const lines = new RawWire(tls)
  await lines.write(`SESSION ${ticket.sessionId}\r\nBANNER \r\n`)
  await lines.line()
  await lines.write(`THUMBPRINT_SHA2 ${word}\r\n`)
  await lines.line()
  await lines.write(`PROXY ${ticket.service}\r\n`)
  const answer = await lines.line()
  if (answer !== '200 Connect ha-nfc') throw new Error(answer)
  socket.off('data', inward)
  outer.off('data', outward)
  return new RawWire(socket)
}
