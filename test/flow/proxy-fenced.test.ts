import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { describePeer } from '../peer.ts'
import { startPostgres } from '../postgres.ts'
import { COMMAND } from '../storm/lab-process.ts'
import { type Json, openLabSession } from './lab-session.ts'

/* A proxy that stands still for a minute, as a suspended VM does, and goes on as if nothing had been. Real processes, a real PostgreSQL, real times: it takes more than a
   minute because the times are what is tested. */

const scenario = {
  taskMs: 20,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [{ name: 'shared', type: 'VMFS6' }],
      vms: [{ name: 'web01', datastore: 'shared', changeTracking: true, disks: [{ size: '32MiB', content: 'random' }] }],
    },
  ],
}

/** Writes down each effect of a process as it begins. */
const EFFECTS = `import { subscribe } from 'node:diagnostics_channel'
import { appendFileSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
if (isMainThread) subscribe('vcb.effect.before', ({ kind, what }) => appendFileSync(process.env.EFFECTS_FILE, kind + ' ' + what + '\\n'))
`

describePeer('postgres', 'a proxy that stood still', (path) => {
  test('is taken over within a minute, begins nothing more, and ends with one error', { timeout: 150_000 }, async () => {
    await using stack = new AsyncDisposableStack()
    const server = stack.use(await startPostgres(path))
    const session = stack.use(await openLabSession({ scenario }))
    await session.json(['init'])
    const url = server.url(await server.database())
    const environmentOf = async (name: string): Promise<Record<string, string>> => {
      const directory = join(session.directory, name)
      await mkdir(directory)
      await writeFile(join(directory, 'vcb.yaml'), JSON.stringify({ state: { url }, proxy: { name } }))
      return { ...session.environment, VCB_STATE_DIR: join(directory, 'state'), VCB_CONFIG: join(directory, 'vcb.yaml') }
    }
    const [still, living] = [await environmentOf('still'), await environmentOf('living')]
    const json = async (...argv: readonly string[]): Promise<Json> => (await session.vcbWith(living, ...argv, '--json')).json()
    const snapshots = async (): Promise<number> => (await session.lab.control.state()).vms.flatMap((vm) => vm.snapshots).length
    // Its reading keeps files locked for a moment after its snapshot has gone.
    const isCommitted = async (): Promise<boolean> => (await session.lab.control.state()).vms.every((vm) => !vm.consolidationNeeded)
    const effectsFile = join(session.directory, 'effects')
    const preload = join(session.directory, 'effects.mjs')
    await writeFile(preload, EFFECTS)
    const effects = async (): Promise<readonly string[]> => (await readFile(effectsFile, 'utf8')).trim().split('\n')

    const slow = await session.lab.control.fault({ on: 'nfc:read', delayMs: 400 })
    const argv = [COMMAND, 'backup', 'web01', '--mode', 'full', '--transport', 'nbdssl', '--json']
    const environment = { ...process.env, ...still, NODE_OPTIONS: `--import=${preload}`, EFFECTS_FILE: effectsFile }
    const child = spawn(process.execPath, argv, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    stack.defer(() => void child.kill('SIGKILL'))
    let [out, err] = ['', '']
    child.stdout.on('data', (piece: Buffer) => (out += piece.toString()))
    child.stderr.on('data', (piece: Buffer) => (err += piece.toString()))
    const ended = once(child, 'close')
    const isReading = async (): Promise<boolean> =>
      (await snapshots()) === 1 && (await json('status')).running.some((job: Json) => job.kind === 'backup' && job.held.length > 2)
    await expect.poll(isReading, { timeout: 30_000, interval: 200 }).toBe(true)

    child.kill('SIGSTOP')
    const stopped = systemClock.monotonicMs()
    const since = (): number => systemClock.monotonicMs() - stopped
    const isTakenOver = async (): Promise<boolean> => {
      await json('recover')
      return (await json('status')).running.length === 0 && (await snapshots()) === 0 && (await isCommitted())
    }
    expect(await isTakenOver()).toBe(false)
    await expect.poll(isTakenOver, { timeout: 60_000, interval: 1_000 }).toBe(true)
    const tookMs = since()
    expect(tookMs).toBeGreaterThan(24_000)
    expect(tookMs).toBeLessThan(60_000)
    await session.expectClean()
    await session.lab.control.clearFaults(slow)
    // Its VM is free, and is backed up by the other one.
    expect((await json('backup', 'web01', '--mode', 'full', '--transport', 'nbdssl')).vms).toMatchObject([{ ok: true }])
    await systemClock.sleep(Math.max(0, 60_000 - since()))

    const before = (await effects()).length
    child.kill('SIGCONT')
    await ended
    expect(child.exitCode).not.toBe(0)
    const [result] = JSON.parse(out).vms
    expect({ ok: result.ok, code: result.error.code, err }).toEqual({ ok: false, code: 'CANCELED', err: '' })
    expect(result.error.message).toMatch(/could not be reached for \d+ s; other proxies may take over|was declared dead by another proxy/u)
    expect(result.error.message).not.toContain('Still held')
    const late = (await effects()).slice(before).filter((effect) => !/^(?:row |call Logout$|process end )/u.test(effect))
    expect(late).toEqual([])
    expect((await json('status')).running).toEqual([])
    await session.expectClean()
    expect((await json('points')).points).toHaveLength(1)
    const lost = await session.vcbWith(living, 'recover', '--journal-lost')
    expect([lost.exit, lost.err]).toEqual([2, expect.stringContaining('which is not replaced by one of its proxies')])
    expect((await json('orphans')).clean).toBe(true)
  })
})
