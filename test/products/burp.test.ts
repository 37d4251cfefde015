import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LabSession } from '../flow/lab-session.ts'
import { leasesOf, openGuestFiles, until } from '../flow/mount-world.ts'
import { canMount, requireMounting } from '../mount-world.ts'
import { peer, requirePeer } from '../peer.ts'
import { type BurpWorld, burpWorld } from './burp-world.ts'
import { expectFiles, expectGone, expectNothingLeft, VMS } from './guest-files.ts'
import { productWorld } from './product-world.ts'

/** Burp itself (Debian's), client and server, with the page's sample configuration, backs up files of guests. */

/** The lease ends 2 s after its owner; the rest is the removal of the snapshot on a busy machine. */
const LEASE_MS = 20_000

let session: LabSession
let burp: BurpWorld
beforeAll(async () => {
  session = await openGuestFiles()
  const program = peer('burp')
  if (canMount() && program !== undefined) burp = await burpWorld(await productWorld(session), program)
})
afterAll(async () => {
  await burp?.[Symbol.asyncDispose]()
  await session[Symbol.asyncDispose]()
})

function requireBurp(): void {
  requireMounting()
  requirePeer('burp')
}

/** A client that is in the middle of the guest's files. */
async function slowBackup(): Promise<{ readonly client: ChildProcess; readonly ended: Promise<unknown[]> }> {
  const client = await burp.slowly()
  const ended = once(client, 'exit')
  await until('the client reads the guest', () => burp.reads(client))
  expect(await leasesOf(session)).toMatchObject([{ state: 'ready' }])
  return { client, ended }
}

/** Within the time of a lease; and the server serves nobody any more. */
async function expectOver(): Promise<void> {
  await expectGone(session, LEASE_MS)
  await until('the end of the server of the client', async () => (await burp.serving()).length === 0)
}

describe('Burp', () => {
  it('stores the files of an ext4 VM and of an NTFS VM, which come back equal', async () => {
    requireBurp()
    for (const [vm, names] of VMS) {
      const { status, said } = await burp.backup(vm)
      expect(said).toContain('backup finished ok')
      expect(status).toBe(0)
      await expectNothingLeft(session)
      expect(await burp.finished(vm)).toEqual(['0000001'])
      await expectFiles(names, await burp.restore(vm))
    }
  })

  it('says that a backup failed when pre-backup fails', async () => {
    requireBurp()
    const { status, said } = await burp.backup('nowhere')
    expect(status).toBe(1)
    expect(said).toContain('pre-backup: nowhere: "name:nowhere" matches no VM')
    await expectNothingLeft(session)
    expect(await burp.finished('nowhere')).toEqual([])
  })

  it.each(['SIGTERM', 'SIGKILL'] as const)('%s to the client in mid backup: nothing is left', async (signal) => {
    requireBurp()
    const { client, ended } = await slowBackup()
    client.kill(signal)
    expect(await ended).toEqual([null, signal])
    await expectOver()
    expect(await burp.finished('slow')).toEqual([])
  })

  it('the server of the client is killed in mid backup: nothing is left', async () => {
    requireBurp()
    const { ended } = await slowBackup()
    for (const pid of await burp.serving()) process.kill(pid, 'SIGKILL')
    expect(await ended).not.toEqual([0, null])
    await expectOver()
    expect(await burp.finished('slow')).toEqual([])
  })
})
