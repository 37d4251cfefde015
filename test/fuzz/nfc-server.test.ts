import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MIB } from '../../src/core/index.ts'
import { ticketToRead } from '../../src/vsphere/index.ts'
import { rawNfc, RawWire } from '../flow/nfc-raw.ts'
import { digestOfSource, type NfcWorld, openNfcWorld } from '../flow/nfc-world.ts'
import { exchange } from '../nfc-exchange.ts'
import { dice, type Dice, ended, junk, mutated } from './mutate.ts'

const PATH = '[lab-ds1] web01/web01.vmdk'
const HANDLE = Buffer.from('e0a5409cffffffff', 'hex')
const WORD = 'k3Vh9QzT0bNwXa7/'
const MAGIC = 0xa100da7a

/** Payload of the next ordinary record, with its tail behind it and an error record before it read too; undefined at the end. */
async function answer(wire: RawWire): Promise<Buffer | undefined> {
  const head = await wire.take(16)
  if (head.length < 16) return undefined
  const payload = await wire.take(head.readUInt32LE(8))
  const type = head.readUInt32LE(4)
  if (type === 1) {
    await wire.take(payload.readUInt32LE(12))
    return answer(wire)
  }
  if (type === 7) await wire.take(payload.readUInt32LE(36))
  if (type === 11) await wire.take(payload.readUInt32LE(12))
  if (type === 13) await wire.take(Math.ceil(Math.ceil(payload.readUInt32LE(32) / 8) / 4) * 4)
  return payload
}

describe('the lab’s NFC server, whatever a client sends', () => {
  let world: NfcWorld
  let digest: string

  const whole = async (): Promise<string> => {
    const { disk } = await world.open('web01', PATH, { compression: 'none' })
    await using _closed = disk
    return await digestOfSource(disk)
  }

  beforeAll(async () => {
    const datacenter = {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [{ name: 'lab-ds1' }],
      vms: [{ name: 'web01', power: 'poweredOff', disks: [{ size: '2MiB', content: 'random' }] }],
    }
    world = await openNfcWorld({ taskMs: 0, datacenters: [datacenter] })
    digest = await whole()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  const ticket = () => ticketToRead(world.vsphere.vcenter, world.vm('web01'))

  /** Nothing is left, the disk is what it was, and the next client is served. */
  async function expectWell(): Promise<void> {
    expect(await world.isClean()).toBe(true)
    expect(await whole()).toBe(digest)
    expect(await world.isClean()).toBe(true)
  }

  /** Sends the client's half of the handshake and a session with one message damaged, hears the answers, leaves. */
  async function session(roll: Dice): Promise<void> {
    const wire = await rawNfc(await ticket(), WORD)
    const messages = [...exchange('handshake'), ...exchange('read')]
    const asked = messages.flatMap(({ from }, index) => (from === 'C' ? [index] : []))
    const spot = roll.one(asked)
    let handle: Buffer | undefined
    for (const [index, { from, bytes }] of messages.entries()) {
      if (from === 'S' && index > spot) break
      const at = bytes.indexOf(HANDLE)
      if (from === 'C') {
        const sent = Buffer.from(bytes)
        if (at >= 0) handle?.copy(sent, at)
        await wire.write(index === spot ? mutated(sent, 120, roll) : sent)
        // Nothing waits for an answer any more: the rest is sent at once, as a client does that is out of step.
        if (index > spot && roll.below(4) === 0) break
      } else {
        if (bytes.readUInt32LE(0) !== MAGIC) await wire.take(264)
        else {
          const payload = await answer(wire)
          if (payload === undefined) break
          if (at >= 0) handle = Buffer.from(payload.subarray(8, 16))
        }
      }
    }
    wire.end()
    await wire.rest()
    wire.destroy()
  }

  it('ends damaged sessions without a lock, a buffer or a byte written', async () => {
    const before = process.memoryUsage().rss
    for (let seed = 0; seed < 80; seed++) await ended(session(dice(seed)), `case ${seed}`)
    await expectWell()
    expect(process.memoryUsage().rss - before).toBeLessThan(512 * MIB)
  })

  it('ends what is no TLS, and lines nobody knows', async () => {
    const { port } = world.lab.endpoints.nfc
    for (let seed = 0; seed < 100; seed++) {
      const roll = dice(seed)
      const wire = new RawWire(connect(port, '127.0.0.1').on('error', () => undefined))
      await wire.line()
      await wire.write(roll.below(2) === 0 ? junk(roll) : Buffer.concat([Buffer.from('160301', 'hex'), junk(roll)]))
      wire.end()
      await ended(wire.rest(), `case ${seed}`)
      wire.destroy()
    }
    await expectWell()
  })
})
