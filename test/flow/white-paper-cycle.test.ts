import { hash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Agent } from '../../src/agent/agent.ts'
import { loadConfig, serveJobs } from '../../src/agent/index.ts'
import { type Clock, MIB, type PointId, type RunRecord, silentLog, systemClock } from '../../src/core/index.ts'
import { createReport, reportHtml, reportText } from '../../src/notices/index.ts'
import { type LabSession, openLabSession } from './lab-session.ts'

/*
 * The cycle of VMware's white paper, 1 : 1000: fifteen VMs on three hosts, a full on Sunday and incrementals on the six nights after it, a tenth of each disk changed
 * every day. One job, run by the agent; its clock is moved from night to night.
 */
const HOSTS = ['esx1.lab', 'esx2.lab', 'esx3.lab']
const VMS = Array.from({ length: 15 }, (_, index) => `vm${String(index + 1).padStart(2, '0')}`)
const SUNDAY = Date.UTC(2026, 11, 6, 22, 5)
const DAY = 24 * 3_600_000
/** MiB */
const sizeOf = (index: number): number => 8 + 2 * (index % 5)

let session: LabSession
let away = 0
const clock: Clock = { ...systemClock, now: () => new Date(systemClock.now().getTime() + away) }

beforeAll(async () => {
  session = await openLabSession({
    scenario: {
      name: 'white-paper',
      seed: 11,
      recordDigests: true,
      datacenters: [
        {
          name: 'DC1',
          clusters: [{ name: 'C1', hosts: HOSTS.map((name) => ({ name })) }],
          networks: ['VM Network'],
          datastores: [
            { name: 'vmfs1', type: 'VMFS6', capacity: '64GiB' },
            { name: 'vmfs2', type: 'VMFS6', capacity: '64GiB' },
          ],
          vms: VMS.map((name, index) => ({
            name,
            host: HOSTS[index % 3] ?? '',
            datastore: index % 2 === 0 ? 'vmfs1' : 'vmfs2',
            changeTracking: true,
            disks: [{ size: `${sizeOf(index)}MiB`, thin: false, content: 'random' }],
          })),
        },
      ],
    },
  })
  await session.json(['init'])
  // Full disks, as in the paper.
  for (const [index, vm] of VMS.entries())
    await session.lab.control.write(vm, { areas: [{ offset: 0, length: sizeOf(index) * MIB }], seed: index })
  const file = join(session.directory, 'vcb.yaml')
  await writeFile(
    file,
    [
      'parallel: 4',
      'jobs:',
      '  - name: white-paper',
      '    select: ["*"]',
      '    cron: "0 22 * * *"',
      '    full: { cron: "0 22 * * 0" }',
      '    timeZone: UTC',
      '    windows: ["22:00-06:00"]',
      '    quiesce: none',
      '',
    ].join('\n'),
  )
  session.environment['VCB_CONFIG'] = file
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

/** What is due at a moment, by an agent that runs for that alone. */
async function runAt(moment: number): Promise<readonly RunRecord[]> {
  away = moment - systemClock.now().getTime()
  const load = () => loadConfig({}, session.environment)
  const stop = new AbortController()
  await using agent = await Agent.open(await load(), { clock, log: silentLog, signal: stop.signal, kind: 'agent' })
  return await serveJobs(agent, { stop: stop.signal, cancel: () => stop.abort(), once: true, api: false, load, version: 'test' })
}

/** SHA-256 of the only disk of each point, every block verified as it is read. */
async function digestsOf(points: readonly string[]): Promise<string[]> {
  await using agent = await Agent.open(await loadConfig({}, session.environment), {
    clock,
    log: silentLog,
    signal: new AbortController().signal,
  })
  const store = await agent.points()
  const digests: string[] = []
  for (const point of points) {
    await using reader = await store.open(point)
    const [disk] = reader.manifest.disks
    await using source = await reader.disk(disk?.key ?? 0)
    const bytes = Buffer.alloc(source.size)
    await source.read(0, bytes)
    digests.push(hash('sha256', bytes))
  }
  return digests
}

it('a full on Sunday, six incrementals, each point the disk of its night', async () => {
  // The day before: the job learns which VMs it has, and nothing is due.
  expect(await runAt(SUNDAY - DAY + 3_600_000 * 12)).toEqual([])
  const wanted = new Map<PointId, string>()
  const all: RunRecord[] = []
  let full = 0
  for (let night = 0; night < 7; night++) {
    if (night > 0) {
      for (const [index, vm] of VMS.entries()) {
        const length = Math.round((sizeOf(index) * MIB) / 10 / 65_536) * 65_536
        await session.lab.control.write(vm, { areas: [{ offset: (night - 1) * length, length }], seed: night })
      }
    }
    const records = await runAt(SUNDAY + night * DAY)
    expect(records.map(({ vm }) => vm.name).toSorted()).toEqual(VMS)
    expect(records.every(({ result, mode }) => result === 'succeeded' && mode === (night === 0 ? 'full' : 'incremental'))).toBe(true)
    const read = records.reduce((sum, { readBytes }) => sum + readBytes, 0)
    if (night === 0) full = read
    else expect(read / full, `night ${night}`).toBeLessThanOrEqual(0.15)
    for (const { vm, point } of records) {
      const [digest] = [...(await session.frozenDigests(vm.name)).values()]
      if (point !== undefined && digest !== undefined) wanted.set(point, digest)
    }
    all.push(...records)
    // Nothing more is due in that night.
    expect(await runAt(SUNDAY + night * DAY + 3_600_000)).toEqual([])
  }
  expect(wanted.size).toBe(105)
  expect(await digestsOf([...wanted.keys()])).toEqual([...wanted.values()])
  await session.expectRight('vm15', all.findLast(({ vm }) => vm.name === 'vm15')?.point ?? '')

  const report = createReport({
    title: 'White paper',
    proxy: 'proxy',
    since: new Date(SUNDAY),
    until: new Date(SUNDAY + 7 * DAY),
    timeZone: 'UTC',
    records: all,
  })
  expect(report).toMatchObject({ failed: [], canceled: [], leftOut: [] })
  expect(report.succeeded).toHaveLength(105)
  for (const text of [reportText(report), reportHtml(report)]) for (const vm of VMS) expect(text).toContain(vm)
  await session.expectClean()
}, 300_000)
