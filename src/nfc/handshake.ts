import { AgentError, type ByteChannel } from '../core/index.ts'
import { classicFrame, connectionDataFrame, FRAME, takeFrame } from './classic-frame.ts'

/** The version we speak, and the lowest a host may answer. */
const VERSION = 11
const LOWEST = 3

/**
 * The classic frames from the hand-over to the first AIO record; returns the host's version. `word` is the one given to THUMBPRINT_SHA2; undefined
 * when the host knows none. Each frame is a write of its own: a host reads one frame per TLS record.
 */
export async function handshake(channel: ByteChannel, host: string, word: string | undefined): Promise<number> {
  if (word !== undefined) await channel.write(classicFrame(FRAME.clientWord, {}, word))
  await channel.write(classicFrame(FRAME.parameters))
  await channel.write(classicFrame(FRAME.version, { 4: VERSION }))
  await takeFrame(channel, host, FRAME.parametersReply)
  const version = (await takeFrame(channel, host, FRAME.version)).readUInt32LE(4)
  if (version < LOWEST) {
    throw new AgentError('UNAVAILABLE', `${host} speaks version ${version} of NFC, which is too old.`, {
      subject: host,
      retry: 'never',
      next: 'Hosts from ESXi 7.0.3 on are supported; use another transport for this one.',
    })
  }
  await channel.write(connectionDataFrame('vcb-proxy', 'nbdmode'))
  await channel.write(classicFrame(FRAME.features, { 4: 3 }))
  await channel.write(classicFrame(FRAME.start))
  await takeFrame(channel, host, FRAME.start)
  return version
}
