import { tmpdir } from 'node:os'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LabSession } from '../flow/lab-session.ts'
import { leasesOf, openGuestFiles, until } from '../flow/mount-world.ts'
import { canMount, requireMounting } from '../mount-world.ts'
import { peer, requirePeer } from '../peer.ts'
import { AMANDA, type AmandaWorld, amandaWorld, type Ended } from './amanda-world.ts'
import { expectFiles, expectGone, expectNothingLeft, VMS } from './guest-files.ts'
import { productWorld } from './product-world.ts'

/**
 * Amanda itself (Debian's, as its user `backup`, with the page's sample configuration, sudoers line and plug-in) backs up files of guests.
 * A dump takes some five seconds, of which Amanda's planner has two, and cannot share them with another.
 */

/** The lease ends 2 s after its owner; the rest is the removal of the snapshot on a busy machine. */
const LEASE_MS = 20_000

let session: LabSession
let amanda: AmandaWorld
beforeAll(async () => {
  // Amanda's own view of the machine has another /dev/shm.
  session = await openGuestFiles(undefined, undefined, tmpdir())
  if (canMount() && peer('amdump') !== undefined) amanda = await amandaWorld(session, await productWorld(session))
})
afterAll(async () => {
  await amanda?.[Symbol.asyncDispose]()
  await session[Symbol.asyncDispose]()
})

function requireAmanda(): void {
  requireMounting()
  requirePeer('amdump')
}

/** A dump of `linux` that is in the middle of its data. */
async function slowDump(): Promise<{ readonly ended: Promise<Ended> }> {
  const ended = amanda.dump('slow', 'linux')
  await until(
    'tar reads the guest',
    async () => (await amanda.processes('tar')).length > 0 && (await amanda.processes('dd', 'sleep')).length > 0,
  )
  expect(await leasesOf(session)).toMatchObject([{ state: 'ready' }])
  return { ended }
}

/** Within the time of a lease; and no process of Amanda waits for anything. */
async function expectOver(): Promise<void> {
  await expectGone(session, LEASE_MS)
  expect(await amanda.mounts()).toEqual([])
  await until('the end of Amanda', async () => (await amanda.processes(...AMANDA)).length === 0)
}

describe('Amanda', () => {
  it('stores the files of an ext4 VM and of an NTFS VM, which come back equal, and says that a dump failed whose pre-backup failed', async () => {
    requireAmanda()
    expect(await amanda.dump('good', 'linux', 'windows', 'nowhere')).toEqual({ status: 4, said: '' })
    await expectNothingLeft(session)
    expect(await amanda.mounts()).toEqual([])
    const log = await amanda.log('good')
    for (const vm of ['linux', 'windows']) expect(log).toMatch(new RegExp(`^SUCCESS dumper localhost ${vm} `, 'm'))
    expect(log).toMatch(/^FAIL dumper localhost nowhere .*matches no VM/m)
    for (const [vm, names] of VMS) await expectFiles(names, await amanda.restore(vm))
  })

  it('canceled by amcleanup -k in mid dump: nothing is left', async () => {
    requireAmanda()
    const { ended } = await slowDump()
    expect(await amanda.cleanup('slow', '-k')).toMatchObject({ status: 0 })
    expect(await ended).toMatchObject({ status: 'SIGTERM' })
    await expectOver()
  })

  it('killed in mid dump: nothing is left', async () => {
    requireAmanda()
    const { ended } = await slowDump()
    await amanda.kill(...AMANDA)
    expect(await ended).toMatchObject({ status: 'SIGKILL' })
    await expectOver()
    expect(await amanda.cleanup('slow')).toMatchObject({ status: 0 })
  })

  it('its sendbackup is killed: the lease of that attempt ends, whether or not Amanda makes another', async () => {
    requireAmanda()
    const { ended } = await slowDump()
    const [{ lease }] = await leasesOf(session)
    await amanda.kill('sendbackup')
    await until('the end of the lease', async () => (await leasesOf(session)).every((each) => each.lease !== lease), LEASE_MS)
    expect(await amanda.cleanup('slow', '-k')).toMatchObject({ status: 0 })
    await ended
    await expectOver()
  })
})
