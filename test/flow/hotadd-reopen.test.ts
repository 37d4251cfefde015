import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { AgentError, MIB, type TransportClaims, silentLog, systemClock } from '../../src/core/index.ts'
import { transportClaims } from '../../src/flow/transport-claims.ts'
import { describeVm, selectVms } from '../../src/inventory/index.ts'
import { createSnapshots } from '../../src/snapshot/index.ts'
import { hotaddTransport, openPlanned, type Transport } from '../../src/transport/index.ts'
import { type HotaddWorld, openAgent, openHotaddWorld } from './hotadd-world.ts'
import { LabClient } from './lab-client.ts'

/* A read that breaks in the middle goes on inside the same snapshot: on the disk as it is attached, or attached anew when it is gone. */
let world: HotaddWorld
let client: LabClient
beforeAll(async () => {
  world = await openHotaddWorld()
  client = await LabClient.login(world.session.lab)
})
afterAll(() => world[Symbol.asyncDispose]())

const attached = async () => (await world.vm('proxy')).disks.filter((disk) => disk.attached)

/** Reads all of `one`, with one error at 2 MiB after `disturb`; how often the disk was attached. */
async function readDisturbed(
  disturb: () => Promise<void>,
): Promise<{ readonly taken: number; readonly right: boolean; readonly resumed: number }> {
  await using agent = await openAgent(world)
  return await agent.job('backup', {}, async (claims) => {
    const vsphere = await agent.vsphere()
    const [vm] = await selectVms(vsphere, ['one'], { bulk: false })
    if (vm === undefined) throw new Error('no VM')
    const before = await describeVm(vsphere, vm)
    const snapshots = createSnapshots(vsphere)
    const held = await claims.take('snapshot', { vm, quiesce: false }, [], (claim) => snapshots.create(vm, { claim }))
    const config = await snapshots.configOf(held.ref, before)
    const [disk] = config.disks
    if (disk === undefined) throw new Error('no disk')
    let taken = 0
    const real = transportClaims(claims, [held.id])
    const counted: TransportClaims = {
      job: real.job,
      take: (kind, args, acquire) => {
        taken++
        return real.take(kind, args, acquire)
      },
    }
    let broken = false
    const inner = hotaddTransport(vsphere, { guest: agent.guest, marks: agent.marks })
    const breaking: Transport = {
      ...inner,
      open: async (of, options) => {
        const source = await inner.open(of, options)
        return {
          size: source.size,
          read: async (offset, into, reading) => {
            if (offset === 2 * MIB && !broken) {
              broken = true
              await disturb()
              throw new AgentError('UNAVAILABLE', 'Reading the disk failed with an input/output error.')
            }
            await source.read(offset, into, reading)
          },
          extents: (range, listing) => source.extents(range, listing),
          [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
        }
      },
    }
    const planned = await openPlanned({ snapshot: held.ref, config, disk }, [breaking], {
      log: silentLog,
      clock: systemClock,
      claims: counted,
      reopen: { attempts: 3, lastAttempts: 3, delayMs: 5, maxDelayMs: 20 },
    })
    const hash = createHash('sha256')
    {
      await using source = planned.source
      const block = new Uint8Array(MIB)
      for (let offset = 0; offset < disk.capacityBytes; offset += MIB) {
        await source.read(offset, block)
        hash.update(block)
      }
      expect(await attached()).toHaveLength(1)
    }
    expect(await attached()).toHaveLength(0)
    const [wanted] = await world.session.lab.control.sha256('one', { snapshot: held.ref.name })
    return { taken, right: hash.digest('hex') === wanted?.sha256, resumed: planned.resumed }
  })
}

test('a disk that is still there is read on, detached before it is attached again', async () => {
  const { taken, ...read } = await readDisturbed(async () => undefined)
  expect(read).toEqual({ right: true, resumed: 1 })
  // Used on, when the new use comes before the end of the broken one.
  expect([1, 2]).toContain(taken)
  await world.expectNothingLeft()
})

test('a disk that somebody took off is attached anew', async () => {
  const detach = async (): Promise<void> => {
    const [disk] = await attached()
    const proxy = await world.vm('proxy')
    await client.task(
      'ReconfigVM_Task',
      client.vm(proxy.moref),
      `<spec><deviceChange><operation>remove</operation><device xsi:type="VirtualDisk"><key>${disk?.key}</key><capacityInKB>0</capacityInKB></device></deviceChange></spec>`,
    )
  }
  expect(await readDisturbed(detach)).toEqual({ taken: 2, right: true, resumed: 1 })
  await world.expectNothingLeft()
})
