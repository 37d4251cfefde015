import { type ByteChannel, isAgentError, KIB, MIB } from '../core/index.ts'
import { type DialOptions, dialNfc } from './dial.ts'
import { HostRefusal } from './nfc-error.ts'
import { NfcSession } from './session.ts'
import type { NfcTicket } from './ticket.ts'

/** Buffers asked for in turn, bytes: a host short of memory may still have room for smaller ones. */
const WISHES = [MIB, 256 * KIB]
const LEAST = 64 * KIB

/**
 * A session by tickets that `ask` brings, one for each connection it takes: a ticket that is refused (used, too old) is replaced once, and a host that
 * refuses the session's buffers is asked for smaller ones on a new connection, as nobody knows what such a host still answers on the old one.
 * Errors: as `dialNfc` and `NfcSession.open`, and what `ask` throws.
 */
export async function openNfcSession(ask: () => Promise<NfcTicket>, options: DialOptions): Promise<NfcSession> {
  const open = async (bufferBytes: number): Promise<NfcSession> => {
    const { channel, host } = await dialled(ask, options)
    return NfcSession.open(channel, { host, clock: options.clock, bufferBytes, signal: options.signal })
  }
  for (const wish of WISHES) {
    try {
      return await open(wish)
    } catch (error) {
      if (!(error instanceof HostRefusal)) throw error
    }
  }
  return open(LEAST)
}

async function dialled(
  ask: () => Promise<NfcTicket>,
  options: DialOptions,
): Promise<{ readonly channel: ByteChannel; readonly host: string }> {
  const ticket = await ask()
  try {
    return { channel: await dialNfc(ticket, options), host: ticket.host }
  } catch (error) {
    if (!isAgentError(error, 'AUTH') || error.retry !== 'now') throw error
    const another = await ask()
    return { channel: await dialNfc(another, options), host: another.host }
  }
}
