import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { isMissing, systemClock } from '../../src/core/index.ts'
import { type LabSession, openLabSession } from './lab-session.ts'

/* Five hundred VMs in one run of the agent, which is a process of its own: what it keeps waiting, and what it holds in memory. */
const VMS = 500
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
const MOST_DELAY_MS = 50
const MOST_BYTES = 400e6

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({
    scenario: {
      name: 'many',
      seed: 5,
      taskMs: 10,
      datacenters: [
        {
          name: 'DC',
          hosts: Array.from({ length: 10 }, (_, index) => ({ name: `esx${index}` })),
          datastores: Array.from({ length: 5 }, (_, index) => ({ name: `store${index}`, type: 'VMFS6' })),
          vms: Array.from({ length: VMS }, (_, index) => ({
            name: `vm${index}`,
            host: `esx${index % 10}`,
            datastore: `store${index % 5}`,
            changeTracking: true,
            disks: [{ size: '1MiB', content: 'random' }],
          })),
        },
      ],
    },
  })
  await session.json(['init'])
  const file = join(session.directory, 'vcb.yaml')
  await writeFile(file, 'parallel: 16\njobs:\n  - { name: all, select: ["*"], rpo: 24h, timeZone: UTC, quiesce: none }\n')
  session.environment['VCB_CONFIG'] = file
}, 300_000)
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

it('keeps nobody waiting and its memory small', async () => {
  const delays = join(session.directory, 'delays.json')
  const child = spawn(process.execPath, [COMMAND, 'agent', '--once', '--json'], {
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      ...session.environment,
      NODE_OPTIONS: `--import=${join(import.meta.dirname, 'loop-delay.mjs')}`,
      LOOP_DELAY_FILE: delays,
      // As its unit has it.
      MALLOC_MMAP_THRESHOLD_: '1048576',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let out = ''
  child.stdout.on('data', (text: Buffer) => (out += text.toString()))
  const exited = once(child, 'exit')
  let peakBytes = 0
  while (child.exitCode === null && child.signalCode === null) {
    try {
      const peak = /VmHWM:\s+(\d+) kB/.exec(await readFile(`/proc/${child.pid}/status`, 'utf8'))?.[1]
      peakBytes = Math.max(peakBytes, Number(peak ?? 0) * 1024)
    } catch (error) {
      if (!isMissing(error)) throw error
    }
    await systemClock.sleep(100)
  }
  const [status] = await exited
  const { runs } = JSON.parse(out) as { runs: { result: string }[] }
  expect([status, runs.length, runs.filter(({ result }) => result !== 'succeeded').length]).toEqual([0, VMS, 0])
  type Delay = { readonly p99: number; readonly max: number }
  const delay = JSON.parse(await readFile(delays, 'utf8')) as { looks: number; all: Delay; own: Delay }
  const shown = ({ p99, max }: Delay): string => `p99 ${p99.toFixed(1)} ms, longest ${max.toFixed(0)} ms`
  console.log(
    `event loop: ${shown(delay.own)}; with waits for a processor: ${shown(delay.all)}; resident at most ${Math.round(peakBytes / 1e6)} MB`,
  )
  expect(delay.looks).toBeGreaterThan(200)
  expect(delay.own.p99).toBeLessThan(MOST_DELAY_MS)
  expect(peakBytes).toBeLessThanOrEqual(MOST_BYTES)
  await session.expectClean()
}, 600_000)
