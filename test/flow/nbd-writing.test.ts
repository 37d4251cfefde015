import { randomBytes } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type BlockSource, type ErrorCode, MIB, silentLog, systemClock, toAgentError } from '../../src/core/index.ts'
import { memorySource } from '../../src/disk/index.ts'
import type { FaultRule } from '../../src/lab/index.ts'
import {
  createMemoryBuckets,
  createNfcLimits,
  nbdTransport,
  type TargetDisk,
  writePlanned,
  type WrittenDisk,
} from '../../src/transport/index.ts'
import { destroyVm, powerOn } from '../../src/vsphere/index.ts'
import { type EmptyDisks, openEmptyDisks } from '../transports/empty-disks.ts'

/* What a host can do to a disk that is being written over NFC: the disk is right in the end, or an error says why it is not. */

const SIZE = 4 * MIB
const image = Buffer.alloc(SIZE)
for (let at = 64 * 1024; at < 3 * MIB; at += 8) image.writeUInt32LE((at * 2_654_435_761) >>> 0, at)
const source = (): BlockSource => memorySource(image)
const REOPEN = { attempts: 2, lastAttempts: 2, delayMs: 1, maxDelayMs: 50 }

let world: EmptyDisks
const buckets = createMemoryBuckets()
const limits = createNfcLimits({}, buckets)
beforeAll(async () => {
  world = await openEmptyDisks()
})
afterAll(() => world[Symbol.asyncDispose]())
afterEach(async () => expect(await left()).toEqual([]))

async function left(): Promise<readonly unknown[]> {
  for (let turn = 0; ; turn++) {
    const { nfc, locks } = await world.lab.control.state()
    const found = [...nfc.sessions, ...locks.filter(({ holder }) => holder.startsWith('NFC')), ...(await buckets.inUse())]
    if (found.length === 0 || turn > 100) return found
    await systemClock.sleep(20)
  }
}

function write(target: TargetDisk, names: readonly ('nbdssl' | 'nbd')[] = ['nbdssl']): Promise<WrittenDisk> {
  const random = (size: number): Uint8Array => randomBytes(size)
  const transports = names.map((name) => nbdTransport(world.vsphere, { name, clock: systemClock, random, limits }))
  return writePlanned(source(), target, transports, { log: silentLog, clock: systemClock, reopen: REOPEN })
}

/** Writes a new disk under a rule: how it was done, with its image, or the error. */
async function under(
  rule: FaultRule,
  names?: readonly ('nbdssl' | 'nbd')[],
): Promise<WrittenDisk | { readonly code: ErrorCode; readonly message: string }> {
  const target = await world.make(SIZE)
  try {
    const written = await world.faulty(rule, () => write(target, names))
    expect((await world.image(target)).equals(image), `the image under ${JSON.stringify(rule)}`).toBe(true)
    return written
  } catch (error) {
    const { code, message } = toAgentError(error)
    if (code === 'INTERNAL') throw error
    return { code, message }
  }
}

describe('a connection that is dropped', () => {
  // The probe has 7 records, the opening 5, then come the writes, the close of the disk and of the session.
  for (const cut of ['before', 'after'] as const) {
    test(`${cut} each record: the disk is right, or the transport is refused before a byte was written`, async () => {
      const outcomes: string[] = []
      for (let nth = 1; nth <= 18; nth++) {
        const result = await under({ on: 'nfc:record', nth, cut })
        outcomes.push('code' in result ? result.code : result.resumed === 0 ? 'right' : 'resumed')
      }
      // A probe that breaks is a refusal, until it has opened the disk: how it closes it again is not looked at.
      expect(outcomes.slice(0, 4)).toEqual(Array.from({ length: 4 }, () => 'UNAVAILABLE'))
      expect(outcomes.slice(7, 11)).toEqual(Array.from({ length: 4 }, () => 'resumed'))
      expect(outcomes.slice(7).every((outcome) => outcome === 'resumed' || outcome === 'right')).toBe(true)
      expect(outcomes.slice(12, 15)).toEqual(Array.from({ length: 3 }, () => 'resumed'))
    })
  }

  test('for good is told with its reason, or goes to the next transport behind nothing half done', async () => {
    expect(await under({ on: 'nfc:write', cut: 'before' })).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/^No transport can write scsi0:0 of empty-\d+ \(nbdssl: .*\)\.$/),
    })
    expect(await under({ on: 'nfc:write', cut: 'before', times: 3 }, ['nbdssl', 'nbd'])).toMatchObject({
      transport: 'nbd',
      refused: [{ transport: 'nbdssl' }],
    })
  })
})

describe('a host that answers wrongly', () => {
  const cases: readonly (readonly [rule: FaultRule, outcome: object])[] = [
    [{ on: 'nfc:write', nth: 2, nfc: 'error' }, { resumed: 1 }],
    [{ on: 'nfc:write', nth: 2, nfc: 'status', value: 13 }, { resumed: 1 }],
    [{ on: 'nfc:write', nth: 2, nfc: 'cutChunk' }, { resumed: 1 }],
    [{ on: 'nfc:write', nth: 2, delayMs: 200 }, { resumed: 0 }],
    [{ on: 'nfc:close', nth: 2, cut: 'before' }, { resumed: 1 }],
    [
      { on: 'nfc:open', nfc: 'wrongCapacity' },
      { code: 'UNAVAILABLE', message: expect.stringContaining('is not scsi0:0') },
    ],
    [
      { on: 'nfc:key', object: 'uuid', nfc: 'wrongValue' },
      { code: 'UNAVAILABLE', message: expect.stringContaining('its uuid is') },
    ],
    [
      { on: 'nfc:open', nfc: 'permission' },
      { code: 'UNAVAILABLE', message: expect.stringContaining('not covered by the NFC ticket') },
    ],
    [
      { on: 'nfc:open', nfc: 'locked' },
      { code: 'UNAVAILABLE', message: expect.stringContaining('is locked') },
    ],
    [{ on: 'nfc:session', nfc: 'sessionLimit' }, { code: 'UNAVAILABLE' }],
    [
      { on: 'NfcRandomAccessOpenDisk', fault: 'NoPermission' },
      { code: 'UNAVAILABLE', message: expect.stringContaining('lacks the privilege') },
    ],
    [
      { on: 'nfc:proxy', nth: 2, nfc: 'expired' },
      { transport: 'nbdssl', resumed: 0 },
    ],
    [{ datastoreFull: 'v6' }, { code: 'CAPACITY', message: expect.stringContaining('no room left') }],
  ]
  for (const [rule, outcome] of cases) {
    test(JSON.stringify(rule), async () => expect(await under(rule)).toMatchObject(outcome), 20_000)
  }
})

test('a VM whose disk is being written cannot be powered on or destroyed, and no second writer gets it', async () => {
  const target = await world.make(SIZE)
  const vm = { type: 'VirtualMachine', value: target.config.vm.moref }
  const { writing } = nbdTransport(world.vsphere, { name: 'nbd', clock: systemClock, random: (size) => randomBytes(size), limits })
  await using sink = await writing?.open(target)
  await sink?.write(0, Buffer.alloc(512, 1))
  await expect(powerOn(world.vsphere, vm)).rejects.toMatchObject({ code: 'CONFLICT' })
  await expect(destroyVm(world.vsphere, vm)).rejects.toMatchObject({ code: 'CONFLICT' })
  await expect(writing?.open(target)).rejects.toMatchObject({ code: 'CONFLICT' })
  await sink?.flush()
})
