import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { type Abortable, AgentError, ByteChannel, type Clock, throwIfAborted } from '../core/index.ts'
import { type ExportInfo, negotiate } from './handshake.ts'

/** Patience for connection and handshake together, ms: a server may open its disk meanwhile. */
const DIAL_MS = 120_000

/** Where a server listens. A socket's path has at most 107 bytes. */
export type NbdAddress = { readonly path: string } | { readonly host: string; readonly port: number }

export type DialOptions = Abortable & { readonly clock: Clock; readonly patienceMs?: number | undefined }

/** A channel on which an export was taken. */
export type Dialled = { readonly channel: ByteChannel; readonly info: ExportInfo }

/** Connects and takes an export. Errors: UNAVAILABLE, NOT_FOUND (no such export), INTEGRITY (not the protocol), CANCELED. A failure leaves no socket. */
export async function dialNbd(address: NbdAddress, exportName: string, options: DialOptions): Promise<Dialled> {
  throwIfAborted(options)
  const peer = 'path' in address ? address.path : `${address.host}:${address.port}`
  return takeExport(connect('path' in address ? address : { ...address, noDelay: true, keepAlive: true }), peer, exportName, options)
}

/** The same on a stream that leads to a server already; a failure ends it. */
export async function takeExport(stream: Duplex, peer: string, exportName: string, options: DialOptions): Promise<Dialled> {
  const patience = options.patienceMs ?? DIAL_MS
  const channel = new ByteChannel(stream, { peer, protocol: 'NBD' })
  const done = new AbortController()
  const stop = new Promise<never>((_resolve, reject) => {
    const late = (): void =>
      reject(new AgentError('UNAVAILABLE', `${peer} did not finish the NBD handshake within ${patience / 1000} s.`, { subject: peer }))
    options.clock.sleep(patience, { signal: done.signal }).then(late, () => undefined) // ended by success or failure below
    options.signal?.addEventListener('abort', () => reject(options.signal?.reason), { once: true, signal: done.signal })
  })
  try {
    return { channel, info: await Promise.race([negotiate(channel, exportName), stop]) }
  } catch (error) {
    channel.fail(new AgentError('CANCELED', `The NBD connection to ${peer} was given up.`, { cause: error }))
    throwIfAborted(options)
    throw error
  } finally {
    done.abort()
  }
}
