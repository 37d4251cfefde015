import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { openState } from '../../src/state/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* The proxy's disk is full while the journal is written. The state directory is a small tmpfs of its own, filled at the moment that counts. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
const run = promisify(execFile)
const isRoot = process.getuid?.() === 0

const SCENARIO = {
  name: 'full',
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      clusters: [{ name: 'C', hosts: [{ name: 'esx1.lab' }] }],
      datastores: [{ name: 'ds1', type: 'VMFS6' }],
      vms: [{ name: 'one', power: 'poweredOn', changeTracking: true, disks: [{ size: '4MiB', content: 'random' }] }],
    },
  ],
}

let session: LabSession
let state: string
let filler: string

describe.skipIf(!isRoot)('proxy disk full while journalling (a tmpfs needs root)', () => {
  beforeAll(async () => {
    session = await openLabSession({ scenario: SCENARIO })
    state = join(session.directory, 'state')
    filler = join(state, 'filler')
    mkdirSync(state)
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', state])
    await session.json(['init'])
    await session.json(['backup', 'one'])
  })
  afterAll(async () => {
    await run('umount', ['-l', state])
    await session[Symbol.asyncDispose]()
  })
  afterEach(empty)

  function empty(): void {
    rmSync(filler, { force: true })
  }

  type Moment = { readonly at: string; readonly nth?: number; readonly after?: string }
  type Full = { readonly exit: unknown; readonly vm: Json; readonly error: Json; readonly effects: readonly string[] }

  /** A backup as a process of its own, during which the disk becomes full just before an effect. */
  async function backup({ at, nth = 1, after = '' }: Moment): Promise<Full> {
    const report = join(session.directory, 'effects.json')
    const preload = pathToFileURL(join(import.meta.dirname, 'fill-disk.ts')).href
    const fill = { FILL_FILE: filler, FILL_REPORT: report, FILL_AT: at, FILL_NTH: String(nth), FILL_AFTER: after }
    const child = spawn(process.execPath, ['--import', preload, COMMAND, 'backup', 'one', '--mode', 'full', '--json'], {
      env: { ...process.env, ...session.environment, VCB_RELEASE_FOR: '0', ...fill },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let out = ''
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (out += chunk.toString()))
    const [exit] = await once(child, 'close')
    const { effects, full } = JSON.parse(readFileSync(report, 'utf8'))
    expect(full, `the moment came: ${out} ${effects.join()}`).toBe(true)
    const document = JSON.parse(out)
    return { exit, vm: document.vms?.[0], error: document.error, effects }
  }
  const ours = async (): Promise<number> => (await session.lab.control.state()).vms.flatMap((vm) => vm.snapshots).length
  const points = async (): Promise<number> => (await session.json(['points'])).points.length

  test('the row of a job or an intent cannot be written: the run takes nothing', async () => {
    const rows = ['job begun', 'claim intended']
    for (const nth of [1, 2, 4, 6]) {
      const before = await points()
      const { exit, vm, error, effects } = await backup({ at: rows.join(), nth })
      expect({ nth, exit }).toEqual({ nth, exit: 10 })
      expect((vm?.error ?? error).message).toContain('No space is left to write the state database')
      const rest = effects.slice(effects.findLastIndex((what) => rows.includes(what)))
      expect(rest, `after row ${nth}`).not.toContain('CreateSnapshotEx_Task')
      expect(await ours()).toBe(0)
      empty()
      await session.json(['recover'])
      expect(await points()).toBe(before)
      await session.expectClean()
    }
  })

  test('a confirmation cannot be written: what was taken is released at once', async () => {
    const { exit, vm, effects } = await backup({ at: 'claim confirmed', after: 'CreateSnapshotEx_Task' })
    expect({ exit, ok: vm.ok }).toEqual({ exit: 10, ok: false })
    expect(effects).toContain('RemoveSnapshot_Task')
    expect(await ours()).toBe(0)
    // The journal could not be told, so recovery looks the snapshot up and finds none.
    empty()
    await session.json(['recover'])
    await session.expectClean()
  })

  test('"released" cannot be written: the point counts, and the next recovery finds it released', async () => {
    const before = await points()
    const { exit, vm } = await backup({ at: 'claim released', after: 'RemoveSnapshot_Task' })
    expect({ exit, ok: vm?.ok }).toEqual({ exit: 12, ok: true })
    expect(await ours()).toBe(0)
    empty()
    expect(await points()).toBe(before + 1)
    expect((await session.json(['status'], 12)).leftOver.length).toBeGreaterThan(0)
    const report = await session.json(['recover'])
    expect(report.recovered.every((job: Json) => job.closed)).toBe(true)
    await session.expectClean()
  })

  test('the database cannot even be opened: the command says so and takes nothing', async () => {
    const { exit, error, effects } = await backup({ at: 'open' })
    expect({ exit, message: error.message }).toEqual({ exit: 10, message: expect.stringContaining('No space is left to write') })
    expect(effects).not.toContain('Login')
    empty()
    await session.expectClean()
  })
})

describe('state database', () => {
  test('at its size limit is CAPACITY, and nothing of the transaction stays', async () => {
    await using other = await openLabSession({ scenario: SCENARIO })
    await other.json(['init'])
    const path = join(other.directory, 'state', 'state.sqlite')
    await using database = await openState(path)
    const limit = database.statement<[], number>('PRAGMA page_count', (row) => row.integer('page_count')).get() ?? 0
    database.statement<[], number>(`PRAGMA max_page_count = ${limit}`, (row) => row.integer('max_page_count')).get()
    const put = database.statement<[string, string, number]>(
      `INSERT INTO job (id, kind, args, begun_at, sequence) VALUES (?, 'x', ?, '', ?)`,
    )
    const large = JSON.stringify('x'.repeat(100_000))
    expect(() => database.transaction('test', () => put.run('a', large, 1_000_000))).toThrow(expect.objectContaining({ code: 'CAPACITY' }))
    const raw = new DatabaseSync(path)
    expect(raw.prepare(`SELECT count(*) AS n FROM job WHERE id = 'a'`).get()).toEqual({ n: 0 })
    raw.close()
  })
})
