import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GIB, isMissing, MIB, systemClock } from '../../src/core/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/*
 * Big disks cost what is in them, not what they could hold. The command runs as its own process, so that its resident memory is its own.
 */
const RSS_LIMIT = 300e6
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
let session: LabSession

beforeAll(async () => {
  session = await openLabSession({
    scenario: {
      name: 'scale',
      seed: 7,
      datacenters: [
        {
          name: 'DC1',
          clusters: [{ name: 'C1', hosts: [{ name: 'esx1.lab' }] }],
          networks: ['VM Network'],
          datastores: [
            { name: 'vmfs1', type: 'VMFS6', capacity: '8TiB' },
            { name: 'nfs1', type: 'NFS', capacity: '8TiB' },
          ],
          vms: [
            { name: 'eight', datastore: 'nfs1', changeTracking: true, disks: [{ size: '8GiB', content: 'empty' }] },
            { name: 'two-tib', datastore: 'vmfs1', changeTracking: true, disks: [{ size: '2TiB', content: 'empty' }] },
          ],
        },
      ],
    },
  })
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

/** Runs `vcb … --json` as a process of its own and watches its peak resident memory (VmHWM). */
async function measured(...argv: readonly string[]): Promise<{ readonly run: Json; readonly peakBytes: number; readonly seconds: number }> {
  const child = spawn(process.execPath, [COMMAND, ...argv, '--json'], {
    env: { ...process.env, ...session.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const started = performance.now()
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  let peakBytes = 0
  const exited = once(child, 'exit')
  while (child.exitCode === null) {
    try {
      const peak = /VmHWM:\s+(\d+) kB/.exec(await readFile(`/proc/${child.pid}/status`, 'utf8'))?.[1]
      peakBytes = Math.max(peakBytes, Number(peak ?? 0) * 1024)
    } catch (error) {
      if (!isMissing(error)) throw error
    }
    await systemClock.sleep(20)
  }
  await exited
  expect(child.exitCode, err + out).toBe(0)
  expect(peakBytes).toBeGreaterThan(0)
  return { run: JSON.parse(out), peakBytes, seconds: (performance.now() - started) / 1000 }
}

describe('an 8 GiB disk', () => {
  test('an incremental with 1 % changed reads at most 1.5 % of the disk', async () => {
    await session.lab.control.write('eight', { percent: 10, seed: 1 })
    const full = await measured('backup', 'eight', '--init', '--mode', 'full')
    expect(full.peakBytes / MIB).toBeLessThanOrEqual(RSS_LIMIT / MIB)
    await session.lab.control.write('eight', { percent: 1, seed: 2 })
    const { run, peakBytes, seconds } = await measured('backup', 'eight')
    const [disk] = run.vms[0].disks
    console.log(
      `8 GiB, 1 % changed: read ${((disk.readBytes / disk.capacityBytes) * 100).toFixed(2)} % of the disk in ${seconds.toFixed(1)} s, peak memory ${Math.round(peakBytes / MIB)} MiB (full: ${Math.round(full.peakBytes / MIB)} MiB)`,
    )
    expect(disk.mode).toBe('incremental')
    expect(disk.changedBytes).toBeGreaterThan(0.009 * 8 * GIB)
    expect(disk.readBytes / disk.capacityBytes).toBeLessThanOrEqual(0.015)
    expect(peakBytes / MIB).toBeLessThanOrEqual(RSS_LIMIT / MIB)
    await session.expectClean()
  })
})

describe('a 2 TiB disk with 1 GiB of data', () => {
  test('is backed up without reading or storing its empty part', async () => {
    const areas = Array.from({ length: 1024 }, (_, index) => ({ offset: index * 2 * GIB, length: MIB }))
    await session.lab.control.write('two-tib', { areas })
    const { run, peakBytes, seconds } = await measured('backup', 'two-tib', '--mode', 'full')
    const [disk] = run.vms[0].disks
    console.log(
      `2 TiB with 1 GiB of data: read ${Math.round(disk.readBytes / MIB)} MiB, stored ${Math.round(disk.storedBytes / MIB)} MiB in ${seconds.toFixed(1)} s, peak memory ${Math.round(peakBytes / MIB)} MiB`,
    )
    expect(disk.readBytes).toBeGreaterThanOrEqual(GIB)
    expect(disk.readBytes).toBeLessThanOrEqual(1.1 * GIB)
    expect(disk.storedBytes).toBeLessThanOrEqual(1.1 * GIB)
    expect(peakBytes / MIB).toBeLessThanOrEqual(RSS_LIMIT / MIB)
    await session.lab.control.write('two-tib', { areas: [{ offset: 1500 * GIB, length: MIB }] })
    const incremental = await measured('backup', 'two-tib')
    expect(incremental.run.vms[0].mode).toBe('incremental')
    expect(incremental.run.vms[0].disks[0].readBytes).toBeLessThanOrEqual(4 * MIB)
    expect(incremental.peakBytes / MIB).toBeLessThanOrEqual(RSS_LIMIT / MIB)
    await session.expectClean()
  })
})
