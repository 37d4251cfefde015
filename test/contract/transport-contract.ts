import { readdir, readlink } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type AgentError,
  type BlockSource,
  type DiskRef,
  type ErrorCode,
  isAgentError,
  silentLog,
  systemClock,
} from '../../src/core/index.ts'
import type { FaultRule } from '../../src/lab/index.ts'
import { openPlanned, type SnapshotDisk, type Transport } from '../../src/transport/index.ts'
import { freezeDisks, type FrozenDisks } from '../transports/frozen-disks.ts'
import type { TransportUnderTest } from '../transports/transports.ts'
import type { TransportWorld } from '../transports/world.ts'
import { blockSourceContract } from './block-source-contract.ts'

/** A lab, and a disk in it whose whole image is known. */
export type ContractWorld = TransportWorld & {
  readonly vm: string
  /** Of the disk as every snapshot of it freezes it; proven by the lab's own digest. */
  readonly image: Uint8Array
  /** Flips bytes of the frozen link's own file, or gives its parent another content id, until disposed. */
  damage(what: 'link' | 'parent'): Promise<AsyncDisposable>
}

/** How a transport can be made to fail, or why a case does not touch it. */
export type TransportFaults = {
  /** Delays every read at the other side. */
  readonly slow?: FaultRule | undefined
  /** Cuts each connection in mid-read. */
  readonly cut: FaultRule | { readonly none: string }
  /** The other side, or the storage, gives bytes that cannot be right. */
  readonly corrupt: FaultRule | 'link' | { readonly none: string }
  /** What it says of them: INTEGRITY when absent, UNAVAILABLE where another connection can bring them right. */
  readonly corruptCode?: ErrorCode | undefined
  /** The parent of the frozen link was changed since. */
  readonly changedParent: 'parent' | { readonly none: string }
  /** The other side names no uuid that could be another. */
  readonly uuidUntold?: boolean | undefined
  /** What it holds, by kinds of claim, while a disk is open. */
  readonly holds: readonly string[]
}

/**
 * What every transport promises, whichever way it reads: refusals come with reasons, what it opens is the disk vSphere describes, a fault is an error of
 * the right code and never wrong bytes, and everything it held is given back. `world` is made once for all transports.
 */
export function describeTransport(entry: TransportUnderTest, faults: TransportFaults, world: () => ContractWorld): void {
  const { name } = entry
  const make = (): Transport => entry.make(world().site)

  describe(`the transport ${name}`, () => {
    let frozen: FrozenDisks
    beforeAll(async () => {
      frozen = await freezeDisks(world().site.vsphere, world().vm, world().site.guest)
    })
    afterAll(async () => {
      await frozen[Symbol.asyncDispose]()
      expect(await world().left()).toEqual([])
    })

    const disk = (): SnapshotDisk => {
      const [found] = frozen.disks
      if (found === undefined) throw new Error('no disk was frozen')
      return found
    }
    const another = (change: Partial<DiskRef>): SnapshotDisk => ({ ...disk(), disk: { ...disk().disk, ...change } })
    const open = (which = disk(), transport = make()) => transport.open(which, { claims: frozen.claims })
    const wholeOf = async (source: BlockSource): Promise<Uint8Array> => {
      const into = new Uint8Array(source.size).fill(0xee)
      await source.read(0, into)
      return into
    }
    const under = async <T>(rule: FaultRule, work: () => Promise<T>): Promise<T> => {
      const id = await world().lab.fault(rule)
      try {
        return await work()
      } finally {
        await world().lab.clearFaults(id)
      }
    }
    /** The code of the error by which opening, reading all of it or the proof at its end fails; with what was read when nothing did. */
    const failureOf = async (which = disk()): Promise<AgentError | Uint8Array> => {
      try {
        await using source = await open(which)
        const bytes = await wholeOf(source)
        await source.finish?.()
        return bytes
      } catch (error) {
        if (isAgentError(error)) return error
        throw error
      }
    }
    const expectReleased = (): void => expect(frozen.held()).toEqual([])

    blockSourceContract(`a disk over ${name}`, async () => ({ source: await open(), image: world().image }))

    it('handles, probes and opens the disk, and proves at its end what was read', async () => {
      const transport = make()
      expect(transport.name).toBe(name)
      expect(transport.handles(disk().disk)).toEqual({ ok: true })
      expect(await transport.probe(disk())).toMatchObject({ ok: true, note: expect.stringMatching(/./) })
      await using source = await open(disk(), transport)
      expect(frozen.held()).toEqual(faults.holds)
      expect(Buffer.compare(await wholeOf(source), world().image)).toBe(0)
      await source.finish?.()
    })

    it('refuses with a reason, and never throws for it', async () => {
      const transport = make()
      const strange = { label: 'scsi9:9', key: 9999, uuid: '6000C290-dead-beef-dead-beefdeadbeef' }
      const refusals: readonly (readonly [string, SnapshotDisk])[] = [
        ['a raw device', another({ backing: 'rdmPhysical' })],
        ['several writers', another({ sharing: 'sharingMultiWriter' })],
        ['a shared bus', another({ sharedBus: 'physicalSharing' })],
        ['a file that is not there', another({ ...strange, fileName: `[v6] gone/gone.vmdk`, chain: ['[v6] gone/gone.vmdk'] })],
        ['an unknown datastore', another({ ...strange, fileName: '[nowhere] a/a.vmdk', chain: ['[nowhere] a/a.vmdk'] })],
        ['a path that climbs out', another({ ...strange, fileName: '[v6] ../../etc/passwd', chain: ['[v6] ../../etc/passwd'] })],
        ['no datastore path', another({ ...strange, fileName: 'nonsense', chain: ['nonsense'] })],
      ]
      for (const [what, which] of refusals) {
        const verdict = await transport.probe(which)
        // One that looks at a file only when it is opened says so then.
        const reason = verdict.ok ? await failureOf(which) : verdict.reason
        expect([what, reason instanceof Uint8Array ? 'read it' : String(reason)]).toEqual([what, expect.stringMatching(/\S+ \S+/)])
      }
      for (const [what, which] of refusals.slice(0, 3)) expect([what, transport.handles(which.disk).ok]).toEqual([what, false])
      expectReleased()
    })

    it('verifies size and uuid before a byte is trusted', async () => {
      const larger = await failureOf(another({ capacityBytes: disk().disk.capacityBytes + 512 }))
      expect(larger).toMatchObject({ code: 'INTEGRITY' })
      const uuid = disk().disk.uuid?.replace(/.{4}$/, (end) => (end === 'beef' ? 'dead' : 'beef'))
      if (faults.uuidUntold !== true) expect(await failureOf(another({ uuid }))).toMatchObject({ code: 'INTEGRITY' })
      expectReleased()
    })

    it('ends a read that is aborted on its way, and writes no byte afterwards', async () => {
      const abort = new AbortController()
      const into = new Uint8Array(disk().disk.capacityBytes).fill(0xee)
      await using source = await open()
      const reading = async (): Promise<unknown> => {
        const done = source.read(0, into, { signal: abort.signal }).then(
          () => 'read',
          (error: unknown) => error,
        )
        await systemClock.sleep(faults.slow === undefined ? 0 : 60)
        abort.abort()
        return done
      }
      const began = performance.now()
      const outcome = await (faults.slow === undefined ? reading() : under(faults.slow, reading))
      const taken = Buffer.from(into)
      if (faults.slow === undefined && outcome === 'read') expect(Buffer.compare(into, world().image)).toBe(0)
      else expect(outcome).toMatchObject({ code: 'CANCELED' })
      expect(performance.now() - began).toBeLessThan(3000)
      await systemClock.sleep(150)
      expect(Buffer.compare(into, taken)).toBe(0)
    })

    it('can be disposed twice, and reads nothing after that', async () => {
      const source = await open()
      await source.read(0, new Uint8Array(512))
      await source[Symbol.asyncDispose]()
      await source[Symbol.asyncDispose]()
      expectReleased()
      await expect(source.read(1024, new Uint8Array(512))).rejects.toSatisfy((error) => isAgentError(error))
    })

    it('fails with UNAVAILABLE when the connection goes in mid-read, and a plan reads on', async (context) => {
      const { cut } = faults
      if ('none' in cut) return context.skip(cut.none)
      const failed = await under(cut, () => failureOf())
      expect(failed).toMatchObject({ code: 'UNAVAILABLE' })
      expectReleased()
      // Cut once: the plan opens it again.
      const reopen = { attempts: 3, lastAttempts: 3, delayMs: 5, maxDelayMs: 20 }
      const planned = await openPlanned(disk(), [make()], { log: silentLog, clock: systemClock, reopen, claims: frozen.claims })
      await using source = planned.source
      const bytes = await under({ ...cut, times: 1 }, () => wholeOf(source))
      await planned.finish()
      expect(Buffer.compare(bytes, world().image)).toBe(0)
    })

    it('takes nothing of data that cannot be right', async (context) => {
      const { corrupt, corruptCode: code = 'INTEGRITY' } = faults
      if (typeof corrupt === 'object' && 'none' in corrupt) return context.skip(corrupt.none)
      const failed = async (): Promise<AgentError | Uint8Array> => failureOf()
      if (corrupt === 'link') {
        await using _damage = await world().damage('link')
        expect(await failed()).toMatchObject({ code })
        expect((await make().probe(disk())).ok).toBe(false)
      } else expect(await under(corrupt, failed)).toMatchObject({ code })
      expectReleased()
      const healed = await failureOf()
      expect(healed instanceof Uint8Array && Buffer.compare(healed, world().image)).toBe(0)
    })

    it('refuses a chain whose parent was changed', async (context) => {
      const { changedParent } = faults
      if (typeof changedParent === 'object') return context.skip(changedParent.none)
      {
        await using _damage = await world().damage(changedParent)
        expect(await failureOf()).toMatchObject({ code: 'INTEGRITY' })
      }
      expect(await make().probe(disk())).toMatchObject({ ok: true })
    })

    it('leaves no socket, no file and nothing at the host', async () => {
      const before = await openDescriptors()
      {
        await using site = await world().openSite()
        await using own = await freezeDisks(site.vsphere, world().vm, site.guest)
        const [found] = own.disks
        if (found === undefined) throw new Error('no disk was frozen')
        const transport = entry.make(site)
        expect(await transport.probe(found)).toMatchObject({ ok: true })
        for (let turn = 0; turn < 3; turn++) {
          await using source = await transport.open(found, { claims: own.claims })
          await source.read(0, new Uint8Array(4096))
        }
        await expect(transport.open({ ...found, disk: { ...found.disk, capacityBytes: 512 } }, { claims: own.claims })).rejects.toThrow(/./)
        expect(own.held()).toEqual([])
      }
      let after = await openDescriptors()
      for (let turn = 0; turn < 100 && after.length > before.length; turn++) {
        await systemClock.sleep(20)
        after = await openDescriptors()
      }
      expect(after.filter((each) => !before.includes(each))).toEqual([])
    })
  })
}

/** Sockets and files of this process; pipes and the like belong to the test runner. */
async function openDescriptors(): Promise<readonly string[]> {
  const found: string[] = []
  for (const fd of await readdir('/proc/self/fd')) {
    try {
      const target = await readlink(`/proc/self/fd/${fd}`)
      if (/^(socket:|\/)/.test(target) && !target.startsWith('/proc/')) found.push(target)
    } catch {
      // Closed while it was listed.
    }
  }
  return found
}
