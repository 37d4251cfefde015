import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile, readlink } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Json, LabSession } from './lab-session.ts'
import { COMMAND, killHolder, leasesOf, newTarget, openMountSession, owner, startCommand, until, untilNoLease } from './mount-world.ts'

/* However a lease ends, and whoever dies, nothing of it stays. */
let session: LabSession
beforeAll(async () => {
  session = await openMountSession()
})
afterAll(() => session[Symbol.asyncDispose]())
afterEach(async () => {
  await session.lab.control.clearFaults()
  // A failing test must not take the next ones down with what it left.
  for (const lease of await leasesOf(session)) await session.vcb('unmount', lease.lease)
})

const mount = async (vm: string, ...flags: readonly string[]): Promise<Json> =>
  session.json(['mount', vm, await newTarget(session), ...flags])
const holderOf = async (lease: string): Promise<number> => (await leasesOf(session)).find((each) => each.lease === lease)?.holder
/** A lease that ended by itself is told when it is unmounted by its id. */
async function expectDoubt(lease: string, why: string): Promise<void> {
  const told = await session.json(['unmount', lease], 9)
  expect(told).toMatchObject({ lease, doubt: expect.stringContaining(why) })
}

describe('a lease ends', () => {
  test('at its deadline, when nobody reads from it, after its owner: three at once, each for its own reason', async () => {
    const product = await owner()
    const [deadline, idle, owned] = await Promise.all([
      mount('one', '--max-hold', '6s'),
      mount('two', '--idle', '1s'),
      mount('web', '--owner-pid', String(product.pid), '--idle', '1s', '--job', 'nightly 7'),
    ])
    expect(await leasesOf(session)).toContainEqual(expect.objectContaining({ lease: owned.lease, owner: product.pid, job: 'nightly 7' }))
    await until('the end of the others', async () => (await leasesOf(session)).length === 1)
    // Idle for longer than it may be without an owner, and it is the one that is left.
    expect(await leasesOf(session)).toMatchObject([{ lease: owned.lease, state: 'ready' }])
    await product[Symbol.asyncDispose]()
    await untilNoLease(session)
    expect([deadline, idle, owned].map(({ directory }) => existsSync(directory))).toEqual([false, false, false])
    await session.expectClean()
    await expectDoubt(deadline.lease, 'The time for which it was given had passed.')
    await expectDoubt(idle.lease, 'Nobody had read anything for 1 s.')
    await expectDoubt(owned.lease, `Its owner, process ${product.pid}, had ended.`)
  })

  test('by "vcb cancel", and by a signal to its holder', async () => {
    const [first, second] = await Promise.all([mount('one'), mount('two')])
    process.kill(await holderOf(second.lease), 'SIGTERM')
    expect(await session.json(['cancel', first.lease, '--wait'])).toMatchObject({ canceled: [{ job: first.lease, ended: true, held: 0 }] })
    await untilNoLease(session)
    await session.expectClean()
    await expectDoubt(first.lease, 'canceled by "vcb cancel"')
  })

  test('in the foreground with its command', async () => {
    const command = startCommand(session, 'mount', 'one', await newTarget(session), '--foreground', '--json')
    await until('the lease', async () => command.out().endsWith('\n'))
    const { lease } = JSON.parse(command.out())
    expect(await holderOf(lease)).toBe(command.child.pid)
    expect(await session.json(['unmount', lease])).toMatchObject({ ended: true })
    expect(await command.ended).toBe(0)
    await session.expectClean()
  })
})

describe('whose holder is killed', () => {
  test('is released by recover, and unmount says that it had ended', async () => {
    const { lease, directory } = await mount('web')
    await killHolder(await holderOf(lease))
    expect(await leasesOf(session)).toMatchObject([{ lease, state: 'left' }])
    expect((await session.json(['status'], 12)).leftOver).toMatchObject([{ job: lease }])
    expect((await session.vcb('leases')).out).toContain(`vcb unmount ${lease}`)
    expect((await session.json(['recover'])).recovered).toMatchObject([{ job: lease, closed: true }])
    expect(existsSync(directory)).toBe(false)
    await session.expectClean()
    await expectDoubt(lease, 'ended before it was unmounted')
  })

  test('is released by unmount, by the next mount of the VM, and while it is being prepared', async () => {
    const first = await mount('web', '--type', 'disk,export')
    await killHolder(await holderOf(first.lease))
    expect(await session.json(['unmount', first.directory], 9)).toMatchObject({ lease: first.lease, ended: true, held: [] })
    expect(existsSync(first.directory)).toBe(false)
    await session.expectClean()

    const second = await mount('web')
    await killHolder(await holderOf(second.lease))
    const third = await mount('web')
    expect((await leasesOf(session)).map(({ lease }) => lease)).toEqual([third.lease])
    await session.json(['unmount', third.lease])

    await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', taskMs: 3000 })
    const command = startCommand(session, 'mount', 'web', await newTarget(session), '--json')
    await until('the snapshot', async () => (await session.lab.control.state()).tasks.length > 0)
    const [preparing] = await leasesOf(session)
    expect(preparing).toMatchObject({ state: 'preparing' })
    await killHolder(preparing.holder)
    expect(await command.ended).toBe(7)
    expect(JSON.parse(command.out() || '{}')).toMatchObject({
      error: { code: 'UNAVAILABLE', next: expect.stringContaining(session.environment['VCB_LOG_FILE'] ?? '?') },
    })
    await session.json(['recover', '--wait', '20s'])
    await session.expectClean()
  })
})

describe('a mount that is given up while it is prepared', () => {
  test('by a signal to the command, by "vcb cancel", and by unmount: everything is undone', async () => {
    // Each VM is waited for until its snapshot is being made; the ends come at the same time.
    const preparing = async (vm: string) => {
      const target = await newTarget(session)
      return { vm, target, ...startCommand(session, 'mount', vm, target, '--json') }
    }
    const inPreparation = (count: number): Promise<void> =>
      until(
        'the snapshots',
        async () => (await session.lab.control.state()).tasks.filter(({ state }) => state === 'running').length === count,
      )
    await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', taskMs: 2500 })
    const signals = ['SIGTERM', 'SIGINT', 'SIGKILL'] as const
    const commands = await Promise.all(['one', 'two', 'web'].map(preparing))
    await inPreparation(3)
    for (const [index, { child }] of commands.entries()) child.kill(signals[index])
    expect(await Promise.all(commands.map(({ ended }) => ended))).toEqual([11, 11, 'SIGKILL'])
    await untilNoLease(session)
    await session.expectClean()

    // Longer than a command takes to start on a busy machine.
    await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', taskMs: 10_000 })
    const [canceled, unmounted] = await Promise.all(['one', 'two'].map(preparing))
    await inPreparation(2)
    await Promise.all([session.vcb('cancel', 'one', '--wait'), session.vcb('unmount', unmounted?.target ?? '')])
    expect([await canceled?.ended, await unmounted?.ended]).toEqual([11, 11])
    await session.expectClean()
  })
})

/** The process that holds a lease is a session of its own, and keeps nothing open that its caller had. */
async function expectOwnSession(): Promise<void> {
  // As a product's hook is started: with a descriptor more, whose other end is read until it is closed.
  const child = spawn(process.execPath, [COMMAND, 'mount', 'one', await newTarget(session), '--json'], {
    env: { ...process.env, ...session.environment },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'ignore', 'pipe'],
  })
  const pipes = [1, 2, 3, 5].map((at) => (child.stdio as readonly unknown[])[at] as Readable)
  let out = ''
  child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString()))
  // Each ends with the command, though the holder lives on.
  await Promise.all(pipes.map((pipe) => once(pipe.resume(), 'close')))
  const { lease } = JSON.parse(out)
  const holder = await holderOf(lease)
  const fields = (await readFile(`/proc/${holder}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ')
  expect(Number(fields[3])).toBe(holder)
  // Its standard error is its log.
  expect([await readlink(`/proc/${holder}/fd/0`), await readlink(`/proc/${holder}/fd/2`)]).toEqual([
    '/dev/null',
    session.environment['VCB_LOG_FILE'],
  ])
  await session.json(['unmount', lease])
}

test('a holder without a configured log has one in the state directory, and the error names it when it dies', async () => {
  const bare = { VCB_LOG_FILE: undefined, VCB_LOG_LEVEL: undefined }
  const { exit, json } = await session.vcbWith(bare, 'mount', 'one', await newTarget(session), '--max-hold', '1h', '--json')
  expect(exit).toBe(0)
  const [lease] = await leasesOf(session)
  expect(lease.log).toMatch(new RegExp(`^${session.environment['VCB_STATE_DIR']}/holders/[0-9TZ]+-\\d+\\.log$`))
  await killHolder(lease.holder)
  expect((await session.vcb('leases')).out).toContain(`Its log: ${lease.log}`)
  expect((await session.json(['unmount', json().lease], 9)).held).toEqual([])
  const other = await session.vcbWith(bare, 'mount', 'one', await newTarget(session), '--json')
  const { log } = (await leasesOf(session))[0]
  await session.json(['unmount', other.json().lease])
  const lines = (await readFile(log, 'utf8')).trim().split('\n')
  expect(lines.map((line) => JSON.parse(line).message)).toContain('a lease ends')
  for (const path of [session.environment['VCB_PASSWORD_FILE'], session.environment['VCB_REPO_PASSWORD_FILE']])
    expect(lines.join('\n')).not.toContain((await readFile(path ?? '', 'utf8')).trim())
  await session.expectClean()
})

/** A VM that another job has is waited for as long as was asked. */
async function expectWaiting(): Promise<void> {
  const first = await mount('web', '--max-hold', '6s')
  const second = await mount('web', '--wait', '30s')
  expect(second.lease).not.toBe(first.lease)
  await session.json(['unmount', second.lease])
}

/** A guest that cannot be quiesced, where it must be, is asked three times within 20 seconds: GUEST. */
async function expectGuest(): Promise<void> {
  await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', object: 'two', fault: 'ApplicationQuiesceFault' })
  const refused = await session.json(['mount', 'two', await newTarget(session), '--quiesce', 'require'], 8)
  expect(refused).toMatchObject({ error: { code: 'GUEST' } })
}

test('a guest that cannot be quiesced; the session and descriptors of a holder; a VM that another job has: at once, and nothing is left', async () => {
  await Promise.all([expectGuest(), expectOwnSession(), expectWaiting()])
  await session.expectClean()
})
