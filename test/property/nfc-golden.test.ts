import { duplexPair } from 'node:stream'
import { inflateSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ByteChannel, KIB, MIB, systemClock } from '../../src/core/index.ts'
import { handshake } from '../../src/nfc/handshake.ts'
import { NfcSession } from '../../src/nfc/index.ts'
import { rawNfc, type RawWire } from '../flow/nfc-raw.ts'
import { type NfcWorld, openNfcWorld } from '../flow/nfc-world.ts'
import { exchange } from '../nfc-exchange.ts'

const PATH = '[lab-ds1] web01/web01.vmdk'
const HANDLE = Buffer.from('e0a5409cffffffff', 'hex')
const WORD = 'k3Vh9QzT0bNwXa7/'

/** A host that waits for each C message byte by byte and sends each S message; what differs first is kept. */
function host(name: string): { readonly channel: ByteChannel; readonly done: Promise<string> } {
  const [ours, theirs] = duplexPair()
  const channel = new ByteChannel(theirs, { peer: 'golden', protocol: 'NFC' })
  const done = (async () => {
    for (const [index, { from, bytes }] of exchange(name).entries()) {
      if (from === 'S') await channel.write(bytes)
      else {
        const said = await channel.take(bytes.length)
        if (!said.equals(bytes)) return `message ${index}: ${said.toString('hex')} instead of ${bytes.toString('hex')}`
      }
    }
    return 'as written'
  })().catch((error: unknown) => String(error))
  return { channel: new ByteChannel(ours, { peer: 'esx1', protocol: 'NFC' }), done }
}

describe('the client says and understands', () => {
  const options = { host: 'esx1', clock: systemClock }

  test('the handshake', async () => {
    const { channel, done } = host('handshake')
    expect(await handshake(channel, 'esx1', WORD)).toBe(11)
    expect(await done).toBe('as written')
  })

  test('a session that reads', async () => {
    const { channel, done } = host('read')
    const session = await NfcSession.open(channel, { ...options, bufferBytes: MIB })
    expect(await session.openDisk(PATH, 'read')).toEqual({
      handle: 0xffffffff9c40a5e0n,
      capacity: 3 * 2 ** 30,
      geometry: { cylinders: 391, heads: 255, sectors: 63 },
    })
    const read = async (offset: number, length: number, compression: 'none' | 'zlib' | 'fastlz' | 'skipz'): Promise<Buffer> => {
      const into = Buffer.alloc(length, 1)
      await session.read(offset, into, compression)
      return into
    }
    expect((await read(0x12340000, 66_048, 'none')).equals(Buffer.alloc(66_048, 0x5a))).toBe(true)
    const hello = Buffer.alloc(4096)
    hello.write('HELLO', 512)
    hello.write('WORLD!', 4090)
    expect((await read(MIB, 4096, 'skipz')).equals(hello)).toBe(true)
    expect((await read(2 * MIB, 4096, 'zlib')).equals(Buffer.alloc(4096, 'A'))).toBe(true)
    expect((await read(3 * MIB, 64 * KIB, 'fastlz')).equals(Buffer.alloc(64 * KIB))).toBe(true)
    expect(await session.descriptorValue('sidecars')).toBeUndefined()
    expect(await session.allocated(2 ** 30, 64 * KIB, 20)).toEqual(Buffer.from([0x0f, 0x80, 0x01, 0]))
    expect(await session.descriptorValue('adapterType')).toBe('lsilogic')
    expect((await read(0x2000, 512, 'skipz')).equals(Buffer.alloc(512, 0xab))).toBe(true)
    await session[Symbol.asyncDispose]()
    expect(await done).toBe('as written')
  })

  test('a session that writes', async () => {
    const { channel, done } = host('write')
    const session = await NfcSession.open(channel, { ...options, bufferBytes: 64 * KIB })
    await session.openDisk(PATH, 'write')
    await session.write(0x2000, Buffer.alloc(512, 0xab), 'none')
    await session.write(0x12340000, Buffer.alloc(66_048, 0x5a), 'none')
    await session[Symbol.asyncDispose]()
    expect(await done).toBe('as written')
  })

  test('a refused file', async () => {
    const { channel, done } = host('refusal')
    const session = await NfcSession.open(channel, options)
    await expect(session.openDisk('[lab-ds1] db02/db02.vmdk', 'read')).rejects.toMatchObject({
      code: 'AUTH',
      message: expect.stringContaining("permission check failed for file '[lab-ds1] db02/db02.vmdk', access = 1, NFC error 11"),
    })
    await session[Symbol.asyncDispose]()
    expect(await done).toBe('as written')
  })
})

describe('the lab answers', () => {
  let world: NfcWorld
  beforeAll(async () => {
    const vm = (name: string, size: string): object => ({ name, power: 'poweredOff', disks: [{ size, records: false }] })
    const datacenter = {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [{ name: 'lab-ds1' }],
      vms: [vm('web01', '3GiB'), vm('db02', '1MiB')],
    }
    world = await openNfcWorld({ taskMs: 0, datacenters: [datacenter] })
    // What the exchange that reads expects, beside what the one that writes brings.
    const session = await world.session(await world.writeTicket('web01', 2000))
    await session.openDisk(PATH, 'write')
    const hello = Buffer.alloc(4096)
    hello.write('HELLO', 512)
    hello.write('WORLD!', 4090)
    await session.write(MIB, hello, 'none')
    await session.write(2 * MIB, Buffer.alloc(4096, 'A'), 'none')
    await session.write(2 ** 30, Buffer.alloc(4 * 64 * KIB, 1), 'none')
    await session.write(2 ** 30 + 15 * 64 * KIB, Buffer.alloc(2 * 64 * KIB, 1), 'none')
    await session[Symbol.asyncDispose]()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  const readTicket = async () => {
    const { ticketToRead } = await import('../../src/vsphere/index.ts')
    return ticketToRead(world.vsphere.vcenter, world.vm('web01'))
  }

  /** Plays the client of an exchange; each answer with the handle of the text in place of the host's own. */
  async function play(wire: RawWire, name: string): Promise<readonly (readonly [said: string, wanted: string])[]> {
    const answers: [string, string][] = []
    let handle: Buffer | undefined
    for (const { from, bytes } of exchange(name)) {
      const at = bytes.indexOf(HANDLE)
      if (from === 'C') {
        const sent = Buffer.from(bytes)
        if (at >= 0) handle?.copy(sent, at)
        await wire.write(sent)
        continue
      }
      const got = Buffer.from(await wire.take(bytes.length))
      if (at >= 0) {
        handle = Buffer.from(got.subarray(at, at + 8))
        HANDLE.copy(got, at)
      }
      answers.push([got.toString('hex'), bytes.toString('hex')])
    }
    return answers
  }

  for (const name of ['write', 'read', 'refusal']) {
    test(`${name}: byte for byte`, async () => {
      const wire = await rawNfc(name === 'write' ? await world.writeTicket('web01', 2000) : await readTicket(), WORD)
      for (const [said, wanted] of await play(wire, 'handshake')) expect(said).toBe(wanted)
      for (const [said, wanted] of await play(wire, name)) {
        const zlib = said.slice(32 + 2 * 12, 32 + 2 * 16) === '01000000' && said.startsWith('7ada00a107000000')
        if (zlib)
          expect(inflateSync(Buffer.from(said.slice(120), 'hex')).equals(inflateSync(Buffer.from(wanted.slice(120), 'hex')))).toBe(true)
        if (!zlib) expect(said).toBe(wanted)
      }
      expect(await wire.rest()).toHaveLength(0)
      wire.destroy()
      expect(await world.isClean()).toBe(true)
    })
  }
})
