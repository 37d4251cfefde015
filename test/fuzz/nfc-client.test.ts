import { duplexPair } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentError, ByteChannel, type ErrorCode, isAgentError, KIB, MIB, systemClock } from '../../src/core/index.ts'
import { parseGreeting } from '../../src/nfc/greeting.ts'
import { handshake } from '../../src/nfc/handshake.ts'
import { NfcSession } from '../../src/nfc/index.ts'
import { exchange, type Message } from '../nfc-exchange.ts'
import { dice, type Dice, ended, mutated } from './mutate.ts'

const CASES = 1500
/** What a host that talks rubbish may be called; anything else is a defect of ours. */
const SAYABLE = new Set<ErrorCode>(['INTEGRITY', 'UNAVAILABLE', 'AUTH', 'CONFLICT'])
/** Header and payload of the longest record; behind them is data, whose damage nobody can see. */
const HEAD = 60

/** Nothing more comes: whoever is not done by then waits for us. */
async function quiet(): Promise<'quiet'> {
  for (let turn = 0; turn < 40; turn++) await new Promise((resolve) => setImmediate(resolve))
  return 'quiet'
}

/** Plays the host's half of an exchange, and hangs up at its end or when the client waits where it should speak. */
function play(messages: readonly Message[]): ByteChannel {
  const [ours, theirs] = duplexPair()
  const channel = new ByteChannel(theirs, { peer: 'fuzz', protocol: 'NFC' })
  const run = async (): Promise<void> => {
    for (const { from, bytes } of messages) {
      if (from === 'S') await channel.write(bytes)
      else if ((await Promise.race([channel.take(bytes.length), quiet()])) === 'quiet') break
    }
    theirs.end()
  }
  run().catch(() => theirs.destroy()) // the client has left
  return new ByteChannel(ours, { peer: 'esx1', protocol: 'NFC' })
}

/** One or two host messages damaged, told by the seed. */
function damaged(name: string, roll: Dice): readonly Message[] {
  const messages = [...exchange(name)]
  const spots = messages.flatMap(({ from }, index) => (from === 'S' ? [index] : []))
  for (let turn = roll.below(4) === 0 ? 2 : 1; turn > 0; turn--) {
    const at = roll.one(spots)
    const bytes = messages[at]?.bytes ?? Buffer.alloc(0)
    messages[at] = { from: 'S', bytes: mutated(bytes, HEAD, roll) }
  }
  return messages
}

const hello = Buffer.alloc(4096)
hello.write('HELLO', 512)
hello.write('WORLD!', 4090)
const READS = [
  [0x12340000, 'none', Buffer.alloc(66_048, 0x5a)],
  [MIB, 'skipz', hello],
  [2 * MIB, 'zlib', Buffer.alloc(4096, 'A')],
  [3 * MIB, 'fastlz', Buffer.alloc(64 * KIB)],
] as const

/** The reads that came, which must be right; how it ended. */
async function readAll(channel: ByteChannel): Promise<{ wrong: number; right: number; code: string }> {
  let [wrong, right] = [0, 0]
  try {
    await using session = await NfcSession.open(channel, { host: 'esx1', clock: systemClock, bufferBytes: MIB })
    await session.openDisk('[lab-ds1] web01/web01.vmdk', 'read')
    for (const [offset, compression, wanted] of READS) {
      const into = Buffer.alloc(wanted.length, 1)
      await session.read(offset, into, compression)
      if (into.equals(wanted)) right++
      else wrong++
    }
    await session.descriptorValue('sidecars')
    await session.allocated(2 ** 30, 64 * KIB, 20)
    await session.descriptorValue('adapterType')
    return { wrong, right, code: 'no error' }
  } catch (error) {
    if (!isAgentError(error)) throw error
    return { wrong, right, code: error.code }
  }
}

describe('the NFC client, whatever a host sends', () => {
  it('ends each request with the right bytes or an error it can be called by, and keeps nothing', async () => {
    const codes = new Map<string, number>()
    let right = 0
    const before = process.memoryUsage().arrayBuffers
    for (let seed = 0; seed < CASES; seed++) {
      const roll = dice(seed)
      const result = await ended(readAll(play(damaged('read', roll))), `case ${seed}`)
      // A host that tells another capacity or lies about data cannot be found out here; one that is out of step can.
      expect([seed, result.wrong]).toEqual([seed, 0])
      right += result.right
      codes.set(result.code, (codes.get(result.code) ?? 0) + 1)
    }
    for (const code of codes.keys()) expect(code === 'no error' || SAYABLE.has(code as ErrorCode) || code === 'INTERNAL').toBe(true)
    expect(codes.get('INTERNAL') ?? 0).toBeLessThan(CASES / 20)
    expect(right).toBeGreaterThan(CASES / 2)
    expect(codes.get('INTEGRITY')).toBeGreaterThan(CASES / 5)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(256 * MIB)
  })

  it('takes what is right in pieces of any size', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const roll = dice(seed)
      const pieces = exchange('read').flatMap((message): Message[] => {
        if (message.from === 'C') return [message]
        const parts: Message[] = []
        for (let at = 0; at < message.bytes.length; ) {
          const size = 1 + roll.below(at < 100 ? 20 : 20_000)
          parts.push({ from: 'S', bytes: message.bytes.subarray(at, at + size) })
          at += size
        }
        return parts
      })
      // The last read of the exchange, of a sector that is stored, is not asked for here.
      expect(await ended(readAll(play(pieces)), `case ${seed}`)).toMatchObject({ wrong: 0, right: 4 })
    }
  })

  it('ends the handshake', async () => {
    for (let seed = 0; seed < 500; seed++) {
      const channel = play(damaged('handshake', dice(seed)))
      const shaken = handshake(channel, 'esx1', 'k3Vh9QzT0bNwXa7/')
      await ended(
        shaken.catch((error: unknown) => {
          if (!isAgentError(error, 'INTEGRITY', 'UNAVAILABLE')) throw error
        }),
        `case ${seed}`,
      )
      channel.fail(new AgentError('CANCELED', 'The case has ended.'))
    }
  })

  it('reads any greeting as one, or says what is wrong with it', () => {
    const items = fc.constantFrom('SSL Required', ' NFCSSL supported/t', ' SHA256 supported', 'SSL', '', ' SHA256 supported ,', '/', 'x')
    const line = fc.oneof(
      fc.string({ maxLength: 1200 }),
      fc
        .tuple(fc.constantFrom('220 a: ', '220 ', '501 a: ', '220 a b:', '2201 a: '), fc.array(items))
        .map(([head, tail]) => head + tail.join(',')),
    )
    fc.assert(
      fc.property(line, (text) => {
        try {
          const greeting = parseGreeting(text, 'esx1')
          expect(text.startsWith('220 ') && text.includes('SSL Required')).toBe(true)
          if (greeting.nfcSsl) expect(text).toContain('NFCSSL supported')
          if (greeting.sha256) expect(text).toContain('SHA256 supported')
        } catch (error) {
          expect(isAgentError(error, 'INTEGRITY', 'UNAVAILABLE')).toBe(true)
        }
      }),
      { seed: 902, numRuns: 2000 },
    )
  })
})
