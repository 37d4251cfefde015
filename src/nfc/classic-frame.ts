import { AgentError, type ByteChannel } from '../core/index.ts'

/** Bytes of every classic frame. */
export const FRAME_BYTES = 264
/** Longest text of an error frame that is read. Bytes. */
const LONGEST_TEXT = 4096

/** Types of the handshake; docs/formats/nfc.md. */
export const FRAME = Object.freeze({
  endOfSession: 4,
  error: 20,
  parameters: 33,
  parametersReply: 36,
  clientWord: 43,
  version: 51,
  start: 52,
  connectionData: 54,
  features: 55,
})

/** A frame of `type` with u32 values at their offsets, and bytes from offset 4 on. */
export function classicFrame(type: number, values: Readonly<Record<number, number>> = {}, text = ''): Buffer {
  const frame = Buffer.alloc(FRAME_BYTES)
  frame.writeUInt32LE(type, 0)
  for (const [offset, value] of Object.entries(values)) frame.writeUInt32LE(value, Number(offset))
  frame.write(text, 4, 'latin1')
  return frame
}

/** Frame 54 and its two names. */
export function connectionDataFrame(client: string, operation: string): Buffer {
  const names = Buffer.from(client + operation, 'latin1')
  return Buffer.concat([classicFrame(FRAME.connectionData, { 4: client.length, 8: operation.length }), names])
}

/** The next frame, which must be of `type`; otherwise an error that says what its being another one means. */
export async function takeFrame(channel: ByteChannel, host: string, expected: number): Promise<Buffer> {
  const frame = await channel.take(FRAME_BYTES)
  const type = frame.readUInt32LE(0)
  if (type === expected) return frame
  if (type === FRAME.endOfSession) {
    throw new AgentError('UNAVAILABLE', `${host} ended the NFC handshake; its version may be too old.`, {
      subject: host,
      retry: 'never',
      next: 'Hosts from ESXi 7.0.3 on are supported; use another transport for this one.',
    })
  }
  if (type === FRAME.error) {
    const [family, code, length] = [frame.readUInt32LE(4), frame.readUInt32LE(8), frame.readUInt32LE(12)]
    if (length > LONGEST_TEXT) throw new AgentError('INTEGRITY', `${host} sent an NFC error text of ${length} bytes.`, { subject: host })
    const text = (await channel.take(length))
      .toString('latin1')
      .replace(/\0[^]*$/, '')
      .trim()
      .replaceAll(/\s+/g, ' ')
    throw new AgentError(
      'UNAVAILABLE',
      `${host} refused the NFC handshake (${text.slice(0, 300) || 'no reason given'}, error ${family}/${code}).`,
      {
        subject: host,
        retry: 'later',
      },
    )
  }
  throw new AgentError('INTEGRITY', `${host} sent NFC frame ${type} where ${expected} was expected.`, { subject: host })
}
