import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { FROM_SOURCES, runChild } from '../crash/commands.ts'
import { type OpenSshd, startSshd } from '../openssh.ts'
import { describePeers } from '../peer.ts'
import { type RestServer, startRestServer } from '../rest-server.ts'
import { resticSftpOption, sftpSubsystem } from '../sftp-place.ts'
import { startTcpFaults } from '../tcp-faults.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* The whole product with repositories on servers: every command, killed processes, no secret where others can see it. */

const run = promisify(execFile)
const PASSWORD = 'a password nobody is to see'

describePeers(['sshd', 'ssh', 'rclone', 'restic'], 'repositories on servers', (paths) => {
  let session: LabSession
  let sshd: OpenSshd
  let rest: RestServer
  beforeAll(async () => {
    session = await openLabSession()
    sshd = await startSshd(paths.sshd, [sftpSubsystem()])
    rest = await startRestServer(paths.rclone, ['--user', 'vcb', '--pass', PASSWORD])
    await mkdir(join(sshd.directory, 'sftp'))
    await writeFile(join(session.directory, 'rest-password'), `${PASSWORD}\n`, { mode: 0o600 })
  })
  afterAll(async () => {
    await rest?.[Symbol.asyncDispose]()
    await sshd?.[Symbol.asyncDispose]()
    await session?.[Symbol.asyncDispose]()
  })

  type Kind = 'sftp' | 'rest'
  const served = (kind: Kind): string => join(kind === 'sftp' ? sshd.directory : join(rest.directory, 'served'), kind, 'vms')
  const urlOf = (kind: Kind, port = sshd.port): string =>
    kind === 'sftp' ? `sftp://${sshd.user}@127.0.0.1:${port}/${served(kind)}` : `rest:http://127.0.0.1:${rest.port}/rest/vms`

  /** Makes `vcb.yaml` say where the repository is, and nothing else does. */
  async function use(kind: Kind, url = urlOf(kind)): Promise<void> {
    const login =
      kind === 'sftp'
        ? { ssh: { keyFile: sshd.keyFile, hostKey: sshd.fingerprint } }
        : { rest: { user: 'vcb', passwordFile: join(session.directory, 'rest-password') } }
    const path = join(session.directory, 'vcb.yaml')
    // YAML takes JSON.
    await writeFile(path, JSON.stringify({ repository: { url, ...login } }))
    delete session.environment['VCB_REPO']
    session.environment['VCB_CONFIG'] = path
    session.environment['VCB_LOG_LEVEL'] = 'debug'
  }

  const stock = async (kind: Kind, ...args: readonly string[]): Promise<string> => {
    const env = {
      PATH: process.env['PATH'],
      HOME: session.directory,
      RESTIC_PASSWORD: session.repositoryPassword,
      RESTIC_REPOSITORY:
        kind === 'sftp'
          ? `sftp:${sshd.user}@127.0.0.1:${served(kind)}`
          : urlOf(kind).replace('://', `://vcb:${encodeURIComponent(PASSWORD)}@`),
    }
    const over = kind === 'sftp' ? ['-o', resticSftpOption(sshd)] : []
    return (await run(paths.restic, [...over, '--no-cache', ...args], { env })).stdout
  }

  /** Files of the repository that nobody needs: locks, parts of files. */
  const leftovers = async (kind: Kind): Promise<readonly string[]> =>
    (await readdir(served(kind), { recursive: true })).filter((name) => /^locks\/.|tmp|[.]partial/u.test(name))

  describe.each<Kind>(['sftp', 'rest'])('%s:', (kind) => {
    it('every command works, and stock restic reads the same over the same way', async () => {
      await use(kind)
      expect((await session.vcb('points', '--json')).json().error.code).toBe('NOT_FOUND')
      await session.json(['init'])
      const { vms } = await session.json(['backup', 'web01', '--quiesce', 'none'])
      expect(vms).toMatchObject([{ ok: true, mode: 'full' }])
      await session.expectRight('web01', vms[0].point)
      const second = await session.json(['backup', 'web01', '--quiesce', 'none'])
      expect(second.vms).toMatchObject([{ ok: true, mode: 'incremental' }])
      expect((await session.json(['points'])).points).toHaveLength(2)
      expect((await session.json(['check'])).problems).toEqual([])
      const { findings } = await session.json(['doctor'])
      expect(findings.find(({ check }: Json) => check === 'repository')).toMatchObject({ result: 'ok' })
      expect(await stock(kind, 'check', '--read-data')).toContain('no errors were found')
      expect(JSON.parse(await stock(kind, 'snapshots', '--json'))).toHaveLength(2)

      await session.json(['forget', vms[0].point])
      expect((await session.json(['points'])).points).toHaveLength(1)
      expect(await leftovers(kind)).toEqual([])
      await session.expectClean()
    })

    it('says no secret anywhere', async () => {
      await use(kind)
      const secrets = [session.repositoryPassword, PASSWORD, Buffer.from(`vcb:${PASSWORD}`).toString('base64'), 'PRIVATE KEY']
      const explained = await session.vcb('config', 'explain')
      expect(explained.exit).toBe(0)
      const refused = await session.vcb(
        'points',
        '--repo',
        urlOf(kind)
          .replace(/127.0.0.1/u, '127.0.0.1:1')
          .replace('@', `:${encodeURIComponent(PASSWORD)}@`),
      )
      expect(refused.exit).not.toBe(0)
      const said = [
        explained.out,
        explained.err,
        refused.out,
        refused.err,
        await readFile(join(session.directory, 'vcb.log'), 'utf8'),
      ].join('\n')
      expect(said.length).toBeGreaterThan(1000)
      for (const secret of [...secrets, encodeURIComponent(PASSWORD)]) expect(said).not.toContain(secret)
    })

    it('a process killed at any kind of change to the server leaves what recovery removes', async () => {
      const cuts = ['after:upload save lock', 'before:upload save snapshot']
      await use(kind)
      for (const kill of cuts) {
        const child = await runChild(
          FROM_SOURCES,
          ['backup', 'win01', '--quiesce', 'none', '--mode', 'full', '--json'],
          session.environment,
          { kill },
        )
        expect(child, kill).toMatchObject({ killed: true })
        await session.json(['recover'])
        expect(await leftovers(kind), kill).toEqual([])
        await session.expectClean()
      }
      expect((await session.json(['check'])).problems).toEqual([])
      expect(await stock(kind, 'check')).toContain('no errors were found')
    })

    it('a repository whose making was killed is not there, and can be made', async () => {
      for (const kill of ['after:upload save key']) {
        await use(kind, `${urlOf(kind)}-${kill.length}`)
        expect(await runChild(FROM_SOURCES, ['init', '--json'], session.environment, { kill })).toMatchObject({ killed: true })
        await session.json(['recover'])
        const left = await readdir(`${served(kind)}-${kill.length}`, { recursive: true, withFileTypes: true })
        expect(left.filter((entry) => entry.isFile()).map(({ name }) => name)).toEqual([])
        await session.json(['init'])
        await session.expectClean()
      }
    })
  })

  it('sftp: a process killed in the middle of a file leaves half of it under no name, and recovery removes it', async () => {
    await using relay = await startTcpFaults(sshd.port, () => ({ afterBytes: 400_000, how: 'silence' }))
    // The same place by another way; recovery goes the straight one.
    const half = async (): Promise<readonly string[]> =>
      (await readdir(served('sftp'), { recursive: true })).filter((name) => name.includes('.partial/'))
    await use('sftp', urlOf('sftp', relay.port))
    const child = spawn(process.execPath, [FROM_SOURCES.command, 'backup', 'web01', '--quiesce', 'none', '--mode', 'full'], {
      env: { PATH: process.env['PATH'], HOME: session.directory, ...session.environment },
      stdio: 'ignore',
    })
    const ended = once(child, 'exit')
    for (let turn = 0; (await half()).length === 0; turn++) {
      if (turn > 600) throw new Error('nothing was half written')
      await systemClock.sleep(50)
    }
    child.kill('SIGKILL')
    await ended
    await relay[Symbol.asyncDispose]()
    expect((await half()).length).toBeGreaterThan(0)
    // The claims name the relay's address, so recovery goes that way: through a plain one on the same port.
    await using plain = await startTcpFaults(sshd.port, () => undefined, relay.port)
    expect(plain.port).toBe(relay.port)
    await session.json(['recover'])
    expect(await leftovers('sftp')).toEqual([])
    await session.expectClean()
    expect((await session.json(['check'])).problems).toEqual([])
  })
})
