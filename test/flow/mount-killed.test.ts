import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { canMount, expectNothingLeft, requireMounting, run } from '../mount-world.ts'
import { requirePeer } from '../peer.ts'
import type { Json, LabSession } from './lab-session.ts'
import { killHolder, leasesOf, newTarget, openGuestFiles, startCommand, until, untilNoLease } from './mount-world.ts'

/*
 * Whoever of those a lease needs is killed while others read from it: no reader hangs, and nothing is mounted, attached or running afterwards. The NBD server is the holder; one that a
 * transport starts is killed in vddk-backup.test.ts.
 */
let session: LabSession
beforeAll(async () => {
  session = await openGuestFiles()
})
afterAll(() => session[Symbol.asyncDispose]())
afterEach(async () => {
  // A failing test must not take the next ones down with what it left.
  for (const lease of await leasesOf(session)) await session.vcb('unmount', lease.lease)
  if (canMount()) await expectNothingLeft(session.directory)
})

const ALL = ['linux', 'windows'] as const
const holderOf = async (lease: string): Promise<number> => (await leasesOf(session)).find((each) => each.lease === lease)?.holder

/** Both VMs, as files and as images, at once. */
function mountBoth(...flags: readonly string[]): Promise<readonly Json[]> {
  requireMounting()
  return Promise.all(ALL.map(async (vm) => session.json(['mount', vm, await newTarget(session), '--type', 'disk,file', ...flags])))
}

const HUNG = 124
/** Reads something again and again until it cannot be read any more; ends with HUNG where it would not have by itself. */
const LOOP = 'while eval "$1"; do :; done 2>/dev/null; exit 0'
function reading(script: string): Promise<number> {
  const child = spawn('timeout', ['-k', '1', '25', 'bash', '-c', LOOP, 'bash', script], { stdio: 'ignore' })
  return once(child, 'exit').then(([code]: unknown[]) => Number(code))
}

/** Three readers of each lease: over NBD, of the raw file past the page cache, of every file. */
async function readers(leases: readonly Json[]): Promise<{ readonly ended: Promise<readonly number[]> }> {
  const nbdcopy = requirePeer('nbdcopy')
  const all = leases.flatMap(({ directory, disks }) => [
    reading(`${nbdcopy} '${disks[0].nbdUri}' null:`),
    reading(`dd if='${disks[0].file}' of=/dev/null iflag=direct bs=64k`),
    reading(`find '${directory}/digits/1' -type f -exec cat {} + >/dev/null && test -d '${directory}/digits/1'`),
  ])
  // All of them are in the middle of it.
  await systemClock.sleep(400)
  return { ended: Promise.all(all) }
}

/** Nobody hung, and nothing is left but what the lease says when it is asked for. */
async function expectOver(leases: readonly Json[], ended: Promise<readonly number[]>, why: readonly (string | RegExp)[]): Promise<void> {
  expect(await ended).not.toContain(HUNG)
  await expectNothingLeft(session.directory)
  await session.expectClean()
  for (const [index, { lease, directory }] of leases.entries()) {
    expect(existsSync(directory)).toBe(false)
    expect(await session.json(['unmount', lease], 9)).toMatchObject({ lease, doubt: expect.stringMatching(why[index] ?? '') })
  }
}

describe('while images and files are read', () => {
  test('the holder, with its NBD server, is killed: recover undoes everything', async () => {
    const leases = await mountBoth()
    const { ended } = await readers(leases)
    for (const { lease } of leases) await killHolder(await holderOf(lease))
    const { recovered } = await session.json(['recover'])
    expect(recovered.map(({ closed }: Json) => closed)).toEqual([true, true])
    await expectOver(leases, ended, [/ended before it was unmounted/, /ended before it was unmounted/])
  })

  test('what reads the FUSE device, and ntfs-3g, are killed: the leases end by themselves and say so', async () => {
    const leases = await mountBoth()
    const { ended } = await readers(leases)
    const [linux, windows] = await Promise.all(leases.map(({ lease }) => holderOf(lease)))
    const children = async (parent: number | undefined, name: string): Promise<readonly string[]> =>
      (await run('pgrep', '-P', String(parent), '-x', name)).trim().split('\n')
    for (const pid of await children(linux, 'dd')) process.kill(Number(pid), 'SIGKILL')
    for (const pid of await children(windows, 'ntfs-3g')) process.kill(Number(pid), 'SIGKILL')
    await untilNoLease(session)
    // A reader may have got its error first.
    await expectOver(leases, ended, [/is served no more|got an error/, /The program that showed .*digits\/1 has ended|got an error/])
  })

  test('an administrator unmounts a part of it: the lease ends and says what is gone', async () => {
    const leases = await mountBoth()
    const { ended } = await readers(leases)
    await run('umount', '-l', join(leases[0].directory, 'disks'))
    await run('umount', '-l', join(leases[1].directory, 'digits/1'))
    await untilNoLease(session)
    await expectOver(leases, ended, [
      /disks was unmounted by somebody else|got an error/,
      /digits\/1 was unmounted by somebody else|got an error/,
    ])
  })

  test('the product is killed: its lease ends after it', async () => {
    const product = spawn('sleep', ['60'], { stdio: 'ignore' })
    const leases = await mountBoth('--owner-pid', String(product.pid))
    const { ended } = await readers(leases)
    product.kill('SIGKILL')
    await untilNoLease(session)
    await expectOver(leases, ended, [/Its owner, process \d+, had ended|got an error/, /Its owner, process \d+, had ended|got an error/])
  })

  test('the agent that was to unmount it is killed: the lease ends all the same', async () => {
    const leases = await mountBoth()
    const { ended } = await readers(leases)
    const commands = leases.map(({ lease }) => startCommand(session, 'unmount', lease))
    for (const [index, { lease }] of leases.entries()) {
      await until(
        'the end of the lease to begin',
        async () => !(await leasesOf(session)).some((each) => each.lease === lease && each.state === 'ready'),
      )
      commands[index]?.child.kill('SIGKILL')
    }
    await Promise.all(commands.map((command) => command.ended))
    await untilNoLease(session)
    expect(await ended).not.toContain(HUNG)
    expect((await session.json(['recover'])).recovered).toEqual([])
    await session.expectClean()
    for (const { directory } of leases) expect(existsSync(directory)).toBe(false)
  })
})

test('the agent that waits for a mount of files is killed while it is prepared: nothing stays', async () => {
  requireMounting()
  await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', taskMs: 1500 })
  const target = await newTarget(session)
  const command = startCommand(session, 'mount', 'linux', target, '--type', 'disk,file', '--json')
  await until('the snapshot', async () => (await session.lab.control.state()).tasks.some(({ state }) => state === 'running'))
  command.child.kill('SIGKILL')
  await command.ended
  await untilNoLease(session)
  await session.lab.control.clearFaults()
  expect(existsSync(target)).toBe(false)
  await session.expectClean()
})
