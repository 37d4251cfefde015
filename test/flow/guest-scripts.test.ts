import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { startSshd } from '../openssh.ts'
import { describePeers } from '../peer.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* Pre-freeze and post-thaw scripts: the guest's own history says what ran when, around which freeze. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
const PASSWORD = 'guest "secret" & <more>'
const accounts = [{ user: 'backup', password: PASSWORD }]
const post = { path: '/opt/vcb/post-thaw', stdout: 'resumed\n' }

const vm = (name: string, more: object = {}): object => ({
  name,
  datastore: 'ds1',
  guestId: 'debian12_64Guest',
  workload: 20,
  changeTracking: true,
  disks: [{ size: '16MiB', content: 'empty' }],
  accounts,
  programs: [{ path: '/opt/vcb/pre-freeze', ms: 60, stdout: 'database stopped\n', stderr: 'a warning\n' }, post],
  ...more,
})
const pre = (more: object): object => ({ programs: [{ path: '/opt/vcb/pre-freeze', ...more }, post] })
const scenario = {
  name: 'scripts',
  seed: 11,
  datacenters: [
    {
      name: 'DC1',
      hosts: [{ name: 'esx1.lab' }],
      datastores: [{ name: 'ds1', type: 'VMFS6' }],
      vms: [
        vm('db'),
        vm('big', pre({ stdout: 'x'.repeat(100_000) })),
        vm('win', {
          guestId: 'windows2019srv_64Guest',
          programs: [{ path: 'C:\\Scripts dir\\pre.bat', stdout: 'stopped\r\n' }, { path: 'C:\\Scripts dir\\post.bat' }],
        }),
        vm('fails', pre({ exitCode: 3, stderr: 'disk is busy\n' })),
        vm('slow', pre({ ms: 60_000 })),
        vm('stranger', { accounts: [{ user: 'backup', password: 'another' }] }),
        vm('toolless', { tools: 'notRunning' }),
        vm('off', { power: 'poweredOff', workload: 0 }),
        vm('bare', { programs: [] }),
        vm('broken', {
          programs: [{ path: '/opt/vcb/pre-freeze' }, { path: '/opt/vcb/post-thaw', exitCode: 9, stderr: 'cannot start\n' }],
        }),
        vm('canceled', pre({ ms: 60_000 })),
        vm('killed'),
        vm('reached'),
        vm('mounted'),
      ],
    },
  ],
}

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario })
  const entry = (vms: string, timeout: string, more = ''): string => `
  - vms: [${vms}]
    preFreeze: /opt/vcb/pre-freeze
    postThaw: /opt/vcb/post-thaw
    user: backup
    passwordEnv: GUEST_PASSWORD
    timeout: ${timeout}${more}`
  const config = `guestScripts:
  - vms: [win]
    preFreeze: 'C:\\Scripts dir\\pre.bat'
    postThaw: 'C:\\Scripts dir\\post.bat'
    user: backup
    passwordEnv: GUEST_PASSWORD${entry('slow', '500ms')}${entry('"*"', '30s')}
`
  await writeFile(join(session.directory, 'vcb.yaml'), config)
  Object.assign(session.environment, { VCB_CONFIG: join(session.directory, 'vcb.yaml'), GUEST_PASSWORD: PASSWORD })
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
afterEach(async () => {
  await session.lab.control.clearFaults()
})

/** What happened in the guest, `what argument` of scripts and the freezes between them. */
const story = async (name: string): Promise<readonly string[]> =>
  (await session.lab.control.guestHistory(name)).map(({ what, command }) => [what, ...(command?.slice(1) ?? [])].join(' '))

const backup = (name: string, ...more: readonly string[]): readonly string[] => [
  'backup',
  name,
  '--transport',
  'san',
  '--repo',
  `dir:${join(session.directory, 'points', name)}`,
  '--init',
  ...more,
]

/** `guest-scripts.json` of the last point of a VM. */
async function kept(name: string): Promise<Json> {
  const top = join(session.directory, 'points', name)
  const [path] = (await readdir(top, { recursive: true }))
    .filter((each) => each.endsWith('guest-scripts.json'))
    .toSorted()
    .slice(-1)
  return JSON.parse(await readFile(join(top, path ?? 'missing'), 'utf8'))
}

async function clean(name: string): Promise<void> {
  await session.expectClean()
  expect(await session.lab.control.guestFiles(name)).toEqual([])
}

async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  for (const start = performance.now(); !(await check()); await systemClock.sleep(20))
    if (performance.now() - start > 20_000) throw new Error(`waited in vain until ${what}`)
}

describe('guest scripts through guest operations', () => {
  test('run before the freeze and after the thaw, and what they said is in the point', async () => {
    const run = await session.json(backup('db'))
    expect(await story('db')).toEqual(['started freeze', 'ended freeze', 'frozen', 'thawed', 'started thaw', 'ended thaw'])
    expect(run.vms[0]).toMatchObject({
      consistency: 'application',
      consistencyReason: expect.stringContaining('/opt/vcb/pre-freeze'),
      warnings: [],
    })
    const { runs } = await kept('db')
    expect(runs).toMatchObject([
      { script: '/opt/vcb/pre-freeze', argument: 'freeze', exitCode: 0, stdout: 'database stopped\n', stderr: 'a warning\n' },
      { script: '/opt/vcb/post-thaw', argument: 'thaw', exitCode: 0, stdout: 'resumed\n', stderr: '' },
    ])
    await clean('db')
  })

  test('of Windows run through cmd.exe, blanks in the path included', async () => {
    const run = await session.json(backup('win'))
    expect(await story('win')).toEqual(['started freeze', 'ended freeze', 'frozen', 'thawed', 'started thaw', 'ended thaw'])
    expect(run.vms[0].consistency).toBe('application')
    expect((await kept('win')).runs[0].stdout).toBe('stopped\r\n')
    await clean('win')
  })

  test('are cut at 64 KiB of output, and say how long it was', async () => {
    await session.json(backup('big'))
    const [first] = (await kept('big')).runs
    expect([first.stdout.length, first.stdoutBytes]).toEqual([65_536, 100_000])
    await clean('big')
  })

  test('a pre-freeze script that fails: try goes on without and says so, require ends with GUEST; both undo it', async () => {
    const run = await session.json(backup('fails'))
    const message = 'The pre-freeze script /opt/vcb/pre-freeze of fails failed: it ended with 3 (disk is busy).'
    expect(run.vms[0]).toMatchObject({
      consistency: 'filesystem',
      consistencyReason: expect.stringContaining('it ended with 3'),
      warnings: [message],
    })
    const once = ['started freeze', 'ended freeze', 'started freezeFail', 'ended freezeFail']
    expect(await story('fails')).toEqual([...once, 'frozen', 'thawed'])
    await clean('fails')
    const refused = await session.json(backup('fails', '--guest-script-policy', 'require'), 8)
    expect(refused.vms[0].error).toMatchObject({ code: 'GUEST', message })
    // Not repeated, and no snapshot tried.
    expect(await story('fails')).toEqual([...once, 'frozen', 'thawed', ...once])
    await clean('fails')
    expect((await session.json(backup('fails', '--no-guest-scripts'))).vms[0].warnings).toEqual([])
    expect(await story('fails')).toHaveLength(12)
  })

  test('one that does not end is ended in time, and undone', async () => {
    const since = performance.now()
    const run = await session.json(backup('slow', '--quiesce', 'require'), 8)
    expect(run.vms[0].error.message).toContain('it did not end within its time')
    expect(performance.now() - since).toBeLessThan(60_000)
    expect(await story('slow')).toEqual(['started freeze', 'terminated freeze', 'started freezeFail', 'ended freezeFail'])
    await clean('slow')
  })

  test.each([
    ['stranger', 'user name or password is wrong'],
    ['bare', '/opt/vcb/pre-freeze does not exist in the guest'],
  ])('%s, where nothing could be started: %s', async (name, words) => {
    const run = await session.json(backup(name))
    expect(run.vms[0]).toMatchObject({ consistency: 'filesystem', warnings: [expect.stringContaining(words)] })
    expect(await story(name)).toEqual(['frozen', 'thawed'])
    const refused = await session.json(backup(name, '--quiesce', 'require'), 8)
    expect(refused.vms[0].error.message).toContain(words)
    await clean(name)
  })

  test('Tools that do not run: no script either; a VM that is off needs none', async () => {
    const run = await session.json(backup('toolless'))
    expect(run.vms[0]).toMatchObject({ consistency: 'crash', warnings: [expect.stringContaining('VMware Tools are not ready')] })
    expect((await session.json(backup('toolless', '--quiesce', 'require'), 8)).vms[0].error.code).toBe('GUEST')
    await clean('toolless')
    expect((await session.json(backup('off', '--quiesce', 'require'))).vms[0]).toMatchObject({ consistency: 'application', warnings: [] })
    expect(await story('off')).toEqual([])
  })

  test('a post-thaw script that fails is a warning: the snapshot is good', async () => {
    const run = await session.json(backup('broken'))
    expect(run.vms[0]).toMatchObject({ consistency: 'application', warnings: [expect.stringContaining('it ended with 9 (cannot start)')] })
    await clean('broken')
  })

  test('a snapshot that fails is followed by freezeFail', async () => {
    await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', object: 'reached', taskError: 'SnapshotDisabled' })
    await session.json(backup('reached'), 6)
    expect(await story('reached')).toEqual(['started freeze', 'ended freeze', 'started freezeFail', 'ended freezeFail'])
    await clean('reached')
  })

  test('canceled in the middle of the script: it is ended, undone, and nothing is left', async () => {
    const running = session.vcb(...backup('canceled'), '--json')
    await until('it runs', async () => (await story('canceled')).includes('started freeze'))
    await session.json(['cancel', 'canceled', '--wait'])
    expect((await running).exit).toBe(11)
    expect(await story('canceled')).toEqual(['started freeze', 'terminated freeze', 'started freezeFail', 'ended freezeFail'])
    await clean('canceled')
  })

  test('run around the snapshot of a mount too', async () => {
    const directory = join(session.directory, 'mounted')
    const mounted = await session.json(['mount', 'mounted', directory, '--transport', 'san'])
    const once = ['started freeze', 'ended freeze', 'frozen', 'thawed', 'started thaw', 'ended thaw']
    expect(mounted).toMatchObject({
      consistency: 'application',
      guestScripts: {
        policy: 'try',
        file: '.vcb/guest-scripts.json',
        runs: [
          { script: '/opt/vcb/pre-freeze', argument: 'freeze', exitCode: 0 },
          { script: '/opt/vcb/post-thaw', argument: 'thaw', exitCode: 0 },
        ],
      },
    })
    expect(JSON.parse(await readFile(join(directory, mounted.guestScripts.file), 'utf8'))).toMatchObject({
      version: 1,
      runs: [{ stdout: 'database stopped\n', stderr: 'a warning\n' }, { stdout: 'resumed\n' }],
    })
    expect(await story('mounted')).toEqual(once)
    await session.json(['unmount', directory])
    const without = await session.json(['mount', 'mounted', directory, '--transport', 'san', '--no-guest-scripts'])
    expect([without.consistency, without.guestScripts]).toEqual(['filesystem', undefined])
    expect(await story('mounted')).toEqual([...once, 'frozen', 'thawed'])
    await session.json(['unmount', directory])
    await clean('mounted')
  })

  test('a mount obeys the policy as a backup does', async () => {
    const directory = join(session.directory, 'mounted')
    const refused = await session.json(['mount', 'fails', directory, '--transport', 'san', '--guest-script-policy', 'require'], 8)
    expect(refused.error).toMatchObject({ code: 'GUEST', message: expect.stringContaining('it ended with 3 (disk is busy)') })
    const mounted = await session.json(['mount', 'fails', directory, '--transport', 'san', '--guest-script-policy', 'try'])
    expect(mounted).toMatchObject({
      consistency: 'filesystem',
      warnings: [expect.stringContaining('it ended with 3')],
      guestScripts: {
        policy: 'try',
        runs: [
          { argument: 'freeze', exitCode: 3 },
          { argument: 'freezeFail', exitCode: 0 },
        ],
      },
    })
    await session.json(['unmount', directory])
    await clean('fails')
  })

  test('doctor says which could be run, and what is missing where not', async () => {
    const look = async (environment: Record<string, string> = {}): Promise<ReadonlyMap<string, Json>> => {
      const { json } = await session.vcbWith(environment, 'doctor', '--json')
      const findings: Json[] = json().findings
      return new Map(
        findings.flatMap((each) => (each.check.startsWith('guest scripts of ') ? [[each.check.slice(17), each] as const] : [])),
      )
    }
    const before = await story('db')
    const found = await look()
    expect(found.get('db')).toMatchObject({ result: 'ok', detail: 'backup gets in by guest operations, and both scripts are there' })
    expect(found.get('win')).toMatchObject({ result: 'ok' })
    expect(found.get('off')).toMatchObject({ result: 'ok', detail: 'not asked: the VM does not run' })
    expect(found.get('stranger')).toMatchObject({ result: 'warning', detail: expect.stringContaining('user name or password is wrong') })
    expect(found.get('bare')).toMatchObject({ detail: 'not in the guest: /opt/vcb/pre-freeze, /opt/vcb/post-thaw' })
    expect(found.get('toolless')).toMatchObject({ detail: 'VMware Tools are not running in the guest.' })
    expect(await story('db')).toEqual(before)
    const { user, passwordFile } = session.lab.restricted
    const restricted = await look({ VCB_USER: user, VCB_PASSWORD_FILE: passwordFile, VCB_QUIESCE: 'require' })
    expect(restricted.get('db')).toMatchObject({
      result: 'failed',
      detail: `missing on the VM: ${['Query', 'Execute', 'Modify'].map((each) => `VirtualMachine.GuestOperations.${each}`).join(', ')}`,
    })
  })

  test('the agent is killed between freeze and thaw: recovery runs the post-thaw script once', async () => {
    await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', object: 'killed', taskMs: 1500, times: 1 })
    const child = spawn(process.execPath, [COMMAND, ...backup('killed')], {
      env: { ...process.env, ...session.environment },
      stdio: 'ignore',
    })
    const exited = once(child, 'exit')
    await until('the snapshot is under way', async () =>
      (await session.lab.control.state()).tasks.some(({ name }) => name.startsWith('CreateSnapshotEx')),
    )
    child.kill('SIGKILL')
    await exited
    expect(await story('killed')).toEqual(['started freeze', 'ended freeze'])
    const report = await session.json(['recover'])
    const claims = report.recovered.flatMap((job: Json) => job.claims)
    expect(claims.map((claim: Json) => claim.kind)).toContain('guestScript')
    expect(claims.filter((claim: Json) => claim.result === 'kept')).toEqual([])
    await session.json(['recover'])
    expect((await story('killed')).filter((line) => line.includes('freezeFail'))).toEqual(['started freezeFail', 'ended freezeFail'])
    await clean('killed')
  })
})

describePeers(['sshd', 'ssh-keygen'], 'guest scripts over SSH, in the shell of a real OpenSSH server', ({ sshd }) => {
  test('run, fail, are ended in time; nothing is left where they ran', async () => {
    await using server = await startSshd(sshd)
    const at = (name: string): string => join(server.directory, name)
    await writeFile(
      at('pre'),
      `#!/bin/sh\necho "pre $1" >>'${at('log')}'\necho out\necho err >&2\ncase "$(cat '${at('how')}')" in fail) exit 4;; hang) sleep 30;; esac\n`,
      { mode: 0o755 },
    )
    await writeFile(at('post'), `#!/bin/sh\necho "post $1" >>'${at('log')}'\n`, { mode: 0o755 })
    const config = `guestScripts:
  - vms: [db]
    via: ssh
    preFreeze: ${at('pre')}
    postThaw: ${at('post')}
    timeout: 2s
    ssh: { address: 127.0.0.1, port: ${server.port}, user: ${server.user}, keyFile: ${server.keyFile}, hostKey: '${server.fingerprint}' }
`
    await writeFile(join(session.directory, 'ssh.yaml'), config)
    const left = async (): Promise<readonly string[]> => (await readdir('/var/tmp')).filter((name) => name.startsWith('vcb-'))
    const before = await left()
    const run = async (how: string, exit: number, ...more: readonly string[]): Promise<Json> => {
      await writeFile(at('how'), how)
      const result = await session.vcbWith({ VCB_CONFIG: join(session.directory, 'ssh.yaml') }, ...backup('db', ...more), '--json')
      expect({ exit: result.exit, err: result.err }).toEqual({ exit, err: '' })
      expect(await left()).toEqual(before)
      await session.expectClean()
      return result.json().vms[0]
    }
    expect(await run('well', 0)).toMatchObject({ consistency: 'application', warnings: [] })
    expect(await run('fail', 0)).toMatchObject({ consistency: 'filesystem', warnings: [expect.stringContaining('it ended with 4 (err)')] })
    expect((await run('hang', 8, '--quiesce', 'require')).error.message).toContain('it did not end within its time')
    expect(await readFile(at('log'), 'utf8')).toBe(
      ['pre freeze', 'post thaw', 'pre freeze', 'post freezeFail', 'pre freeze', 'post freezeFail', ''].join('\n'),
    )
    const doctor = async (): Promise<Json> => {
      const { json } = await session.vcbWith({ VCB_CONFIG: join(session.directory, 'ssh.yaml') }, 'doctor', '--json')
      return json().findings.find((each: Json) => each.check === 'guest scripts of db')
    }
    expect(await doctor()).toMatchObject({ result: 'ok', detail: expect.stringContaining('by SSH, and both scripts are there') })
    await writeFile(
      join(session.directory, 'ssh.yaml'),
      config.replace(/SHA256:./, 'SHA256:_'.replace('_', server.fingerprint[7] === 'A' ? 'B' : 'A')),
    )
    expect(await run('well', 0)).toMatchObject({ consistency: 'filesystem', warnings: [expect.stringContaining('host key')] })
    expect(await doctor()).toMatchObject({ result: 'warning', detail: expect.stringContaining('host key') })
    expect((await readFile(at('log'), 'utf8')).split('\n')).toHaveLength(7)
  })
})
