import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { type LabSession, openLabSession } from './lab-session.ts'

/* The journal file is damaged or gone: every command refuses in one sentence and one next step, and that step finds in vSphere what it knew. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')

const SCENARIO = {
  name: 'lost',
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      clusters: [{ name: 'C', hosts: [{ name: 'esx1.lab' }] }],
      datastores: [{ name: 'ds1', type: 'VMFS6' }],
      vms: [
        {
          name: 'one',
          power: 'poweredOn',
          changeTracking: true,
          snapshots: [{ name: 'before the upgrade' }],
          disks: [{ size: '8MiB', content: 'random' }],
        },
      ],
    },
  ],
}

let session: LabSession
let state: string
let path: string

beforeAll(async () => {
  session = await openLabSession({ scenario: SCENARIO })
  state = join(session.directory, 'state')
  path = join(state, 'state.sqlite')
  await session.json(['init'])
  await session.json(['backup', 'one'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
afterEach(async () => {
  await session.lab.control.clearFaults()
})

const snapshots = async (): Promise<string[]> =>
  (await session.lab.control.state()).vms.flatMap((vm) => vm.snapshots.map((snapshot) => snapshot.name.replace(/ \w{24}$/, '')))

async function startBackup(): Promise<{ readonly child: ChildProcess; readonly ended: Promise<unknown> }> {
  await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 3000 })
  const child = spawn(process.execPath, [COMMAND, 'backup', 'one', '--mode', 'full', '--transport', 'https'], {
    env: { ...process.env, ...session.environment },
    stdio: 'ignore',
  })
  const ended = once(child, 'exit')
  for (let waited = 0; (await snapshots()).length < 2; waited += 50) {
    if (waited > 40_000 || child.exitCode !== null) throw new Error('the backup took no snapshot')
    await systemClock.sleep(50)
  }
  await systemClock.sleep(700)
  return { child, ended }
}

async function killBackup(): Promise<void> {
  const { child, ended } = await startBackup()
  child.kill('SIGKILL')
  await ended
  await session.lab.control.clearFaults()
}

/** Each way of losing the journal; the companions are as the killed process left them unless they are the loss. */
const LOSSES: readonly (readonly [string, () => void])[] = [
  [
    'truncated',
    () => {
      settle()
      truncateSync(path, Math.floor(statSync(path).size / 2 / 4096) * 4096 + 100)
    },
  ],
  [
    'overwritten with random bytes in the middle',
    () => {
      settle()
      const bytes = readFileSync(path)
      for (let at = 4096; at < bytes.length; at++) bytes[at] = (at * 2_654_435_761) >>> 13
      writeFileSync(path, bytes)
    },
  ],
  [
    'of zero length',
    () => {
      settle()
      truncateSync(path, 0)
    },
  ],
  [
    'the database of another program',
    () => {
      settle()
      const raw = new DatabaseSync(path)
      raw.exec('PRAGMA application_id = 7')
      raw.close()
    },
  ],
  ['without its write-ahead log', () => rmSync(`${path}-wal`)],
  [
    'deleted',
    () => {
      for (const part of ['', '-wal', '-shm']) rmSync(`${path}${part}`, { force: true })
    },
  ],
]

/** Brings everything into the one file, as the end of the last process does. */
function settle(): void {
  const raw = new DatabaseSync(path)
  raw.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  raw.close()
}

describe('a journal file that is', () => {
  test.each(LOSSES)('%s: refused with one next step, which sets it aside and releases what it knew', async (name, lose) => {
    await killBackup()
    lose()
    const before = readdirSync(state).sort()
    for (const argv of [['status'], ['recover'], ['backup', 'one']]) {
      const result = await session.vcb(...argv, '--json')
      expect({ argv, exit: result.exit, out: result.out }).toMatchObject({ argv, exit: 9 })
      const { error } = result.json()
      expect(error).toMatchObject({ code: 'INTEGRITY', next: expect.stringContaining('vcb recover --journal-lost') })
      expect(error.message).toContain('state database')
    }
    expect(readdirSync(state).sort(), 'a refusal changes nothing').toEqual(before)
    expect(await snapshots()).toEqual(['before the upgrade', 'vcb-proxy'])
    const report = await session.json(['recover', '--journal-lost'])
    expect(report.removed).toMatchObject([{ kind: 'snapshot', result: 'removed' }])
    expect(await snapshots()).toEqual(['before the upgrade'])
    if (name === 'deleted') expect(report.setAside).toEqual([])
    else expect(report.setAside[0]).toMatch(/state\.sqlite\.lost-\d{8}T\d{6}Z(-\d+)?$/)
    for (const file of report.setAside) expect(existsSync(file), file).toBe(true)
    expect((await session.json(['status'])).leftOver).toEqual([])
    expect((await session.json(['backup', 'one'])).vms[0].ok).toBe(true)
  })

  test('of a newer vcb stays refused and where it is', async () => {
    settle()
    const raw = new DatabaseSync(path)
    const { user_version: version } = raw.prepare('PRAGMA user_version').get() ?? {}
    raw.exec('PRAGMA user_version = 1000')
    raw.close()
    const before = readFileSync(path)
    expect((await session.vcb('recover', '--journal-lost')).exit).toBe(3)
    expect(readFileSync(path).equals(before)).toBe(true)
    const back = new DatabaseSync(path)
    back.exec(`PRAGMA user_version = ${Number(version)}`)
    back.close()
  })

  test('sound is left as it is', async () => {
    const result = await session.vcb('recover', '--journal-lost')
    expect([result.exit, result.err]).toEqual([2, expect.stringContaining('is not damaged; it was left as it is.')])
    expect((await session.vcb('status')).exit).toBe(0)
  })

  test('in use by a living vcb is never replaced', async () => {
    const { child, ended } = await startBackup()
    const result = await session.vcb('recover', '--journal-lost')
    expect([result.exit, result.err]).toEqual([6, expect.stringContaining(`is in use by process ${child.pid}`)])
    child.kill('SIGINT')
    await ended
    await session.lab.control.clearFaults()
    await session.expectClean()
  })

  test('lost while vCenter is away: the new journal is made, and the search is what "vcb orphans --remove" does', async () => {
    await killBackup()
    rmSync(`${path}-wal`)
    const result = await session.vcbWith({ VCB_VCENTER: 'https://127.0.0.1:1' }, 'recover', '--journal-lost')
    expect([result.exit, result.err]).toEqual([7, expect.stringContaining('vcb orphans --remove')])
    await session.json(['orphans', '--remove'])
    expect(await snapshots()).toEqual(['before the upgrade'])
  })
})
