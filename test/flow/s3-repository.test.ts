import { execFile } from 'node:child_process'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import { canMount, expectNothingLeft, run } from '../mount-world.ts'
import { Secret } from '../../src/core/index.ts'
import { initRepository } from '../../src/restic/index.ts'
import { FROM_SOURCES, runChild } from '../crash/commands.ts'
import { describePeers } from '../peer.ts'
import { deps, FAST_KDF } from '../peers/restic-fixture.ts'
import { makeBucket, s3Place, stockRestic } from '../s3-place.ts'
import { S3_SERVER_PEERS, type S3Server, startS3Server } from '../s3-server.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'
import { newTarget } from './mount-world.ts'

const scenario = {
  taskMs: 0,
  recordDigests: true,
  datacenters: [
    {
      name: 'DC1',
      hosts: [{ name: 'esx1' }],
      datastores: [{ name: 'vmfs1', type: 'VMFS6' }],
      vms: [
        {
          name: 'web01',
          datastore: 'vmfs1',
          changeTracking: true,
          workload: 20,
          disks: [
            { size: '24MiB', content: 'random' },
            { size: '8MiB', thin: false },
          ],
        },
      ],
    },
  ],
}

/* Whole backups of the lab into a bucket, and back, with stock restic on the same bucket. */
describePeers([...S3_SERVER_PEERS, 'restic'], 'a repository in a bucket', (programs) => {
  let session: LabSession
  let server: S3Server
  beforeAll(async () => {
    server = await startS3Server(programs)
    session = await openLabSession({ scenario })
  })
  afterAll(async () => {
    vi.unstubAllEnvs()
    await session?.[Symbol.asyncDispose]()
    await server?.[Symbol.asyncDispose]()
  })
  afterEach(() => session.expectClean())

  const restic = async (bucket: string, ...argv: readonly string[]): Promise<string> => {
    const { url, environment } = stockRestic(server, bucket)
    const env = { ...process.env, ...environment, RESTIC_REPOSITORY: url, RESTIC_PASSWORD: session.repositoryPassword }
    return (await promisify(execFile)(programs.restic, ['--no-cache', ...argv], { env, maxBuffer: 64 * 1024 * 1024 })).stdout
  }
  /** As the file of settings has it: TLS with the authority named, the secret in a file. */
  const configure = async (bucket: string, more = ''): Promise<string> => {
    const [config, secret] = [join(session.directory, 'vcb.yaml'), join(session.directory, 's3-secret')]
    await writeFile(secret, `${server.owner.secretAccessKey}\n`, { mode: 0o600 })
    const url = `s3:${server.tlsEndpoint}/${bucket}/backups/repo`
    await writeFile(
      config,
      `repositories:\n  cloud:\n    url: ${url}\n    passwordFile: repo-password\n    s3: { accessKeyId: ${server.owner.accessKeyId}, secretAccessKeyFile: s3-secret, caFile: ${server.certificate}${more} }\n`,
    )
    Object.assign(session.environment, { VCB_CONFIG: config, VCB_REPO: url, VCB_LOG_LEVEL: 'debug' })
    return url
  }
  /** Its key costs a millisecond instead of half a second, in each command. */
  const makeRepository = async (bucket: string): Promise<void> => {
    await using place = s3Place(server, bucket)
    await using _ = await initRepository(place, new Secret(session.repositoryPassword), deps(), { kdf: FAST_KDF })
  }
  const pointsOf = async (): Promise<string[]> => (await session.json(['points'])).points.map(({ id }: Json) => id)

  it('is made, written, listed, checked, restored, mounted and forgotten, and stock restic reads it', async () => {
    const bucket = await makeBucket(server)
    await configure(bucket)
    const missing = await session.vcb('points', '--json')
    expect([missing.exit, missing.json().error.code]).toEqual([5, 'NOT_FOUND'])
    await makeRepository(bucket)
    const first = (await session.json(['backup', 'web01', '--quiesce', 'none'])).vms[0]
    const second = (await session.json(['backup', 'web01', '--quiesce', 'none'])).vms[0]
    expect([first, second]).toMatchObject([
      { ok: true, mode: 'full' },
      { ok: true, mode: 'incremental' },
    ])
    await session.expectRight('web01', second.point)
    expect((await session.json(['check'])).problems).toEqual([])
    await restic(bucket, 'check', '--read-data')
    expect(JSON.parse(await restic(bucket, 'snapshots', '--json'))).toHaveLength(2)
    const { findings } = await session.json(['doctor'])
    expect(findings.find(({ check }: Json) => check === 'repository')).toMatchObject({
      result: 'ok',
      detail: expect.stringMatching(/^restic:s3:https:\/\/127.0.0.1:\d+\/\w+\/backups\/repo opens, 2 restore points$/),
    })
    if (canMount()) {
      const mounted = await session.json(['mount', `point:${second.point}`, await newTarget(session), '--type', 'disk'])
      const digests = await Promise.all(
        mounted.disks.map(async ({ label, file }: Json) => [label, (await run('sha256sum', file)).slice(0, 64)]),
      )
      expect(new Map(digests)).toEqual(await session.frozenDigests('web01'))
      await session.json(['unmount', mounted.lease, '--read-all'])
      await expectNothingLeft(session.directory)
    }
    await session.json(['forget', 'web01', '--keep-last', '1'])
    expect(await pointsOf()).toEqual([second.point])
    await restic(bucket, 'prune')
    await restic(bucket, 'check', '--read-data')
    expect((await session.json(['check'])).problems).toEqual([])
    expect(await restic(bucket, 'list', 'locks')).toBe('')
  }, 180_000)

  it('takes the key pair from the environment as restic does, and shows the secret nowhere', async () => {
    const bucket = await makeBucket(server)
    vi.stubEnv('AWS_ACCESS_KEY_ID', server.owner.accessKeyId)
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', server.owner.secretAccessKey)
    const { VCB_CONFIG: _, ...environment } = session.environment
    const given = { ...environment, VCB_CONFIG: undefined, VCB_LOG_LEVEL: 'debug', VCB_REPO: `s3:${server.endpoint}/${bucket}` }
    const ran = [
      await session.vcbWith(given, 'backup', 'web01', '--quiesce', 'none', '--init', '--json'),
      await session.vcbWith(given, 'doctor', '--json'),
      await session.vcbWith(given, 'config', 'explain'),
      await session.vcbWith({ ...given, VCB_REPO: `s3:${server.endpoint}/no-such-bucket` }, 'points'),
    ]
    expect(ran.map(({ exit }) => exit)).toEqual([0, expect.any(Number), 0, 5])
    expect(ran[3]?.err).toContain('There is no bucket no-such-bucket on')
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'wrong')
    const wrong = await session.vcbWith(given, 'points')
    expect([wrong.exit, wrong.err]).toEqual([4, expect.stringContaining('does not accept the key pair')])
    const said = [...ran, wrong].map(({ out, err }) => out + err).join('')
    const files = (await readdir(session.directory, { recursive: true, withFileTypes: true })).filter(
      (each) => each.isFile() && each.name !== 's3-secret' && !each.parentPath.includes('/lab'),
    )
    const written = (await Promise.all(files.map((each) => readFile(join(each.parentPath, each.name), 'latin1')))).join('')
    expect(written.length).toBeGreaterThan(10_000)
    expect(written).toContain('s3:')
    for (const text of [said, written]) expect(text.includes(server.owner.secretAccessKey)).toBe(false)
    vi.unstubAllEnvs()
  })

  it('killed at its uploads, it leaves after recovery no lock, no half repository and no job, and the points that were there', async () => {
    const bucket = await makeBucket(server)
    await configure(bucket)
    const killAt = async (kill: string, ...argv: readonly string[]): Promise<void> => {
      const child = await runChild(FROM_SOURCES, argv, session.environment, { kill })
      expect(child.killed, `${kill}: ${child.err}`).toBe(true)
      await session.json(['recover'])
      await session.expectClean()
    }
    await killAt('before:upload save config', 'init')
    expect((await session.vcb('points', '--json')).json().error.code).toBe('NOT_FOUND')
    await makeRepository(bucket)
    const backup = ['backup', 'web01', '--quiesce', 'none']
    const { point } = (await session.json(backup)).vms[0]
    for (const kill of ['after:upload save lock', 'after:upload save data', 'before:upload save snapshot']) {
      await killAt(kill, ...backup)
      expect(await restic(bucket, 'list', 'locks'), kill).toBe('')
      expect(await pointsOf(), kill).toEqual([point])
    }
    expect(JSON.parse(await restic(bucket, 'key', 'list', '--json'))).toHaveLength(1)
    await restic(bucket, 'check', '--read-data')
    expect((await session.json(backup)).vms[0]).toMatchObject({ ok: true, mode: 'incremental' })
  }, 180_000)

  it('with Object Lock, forget says until when a point is kept and leaves it; when that is over, it goes', async () => {
    const bucket = await makeBucket(server, { objectLock: true })
    await configure(bucket, ', objectLock: { mode: compliance, days: 1 }')
    await makeRepository(bucket)
    for (let night = 0; night < 2; night++) await session.json(['backup', 'web01', '--quiesce', 'none'])
    const [older = '', newer] = await pointsOf()
    for (const flags of [['--dry-run'], []]) {
      const { vms } = await session.json(['forget', 'web01', '--keep-last', '1', ...flags])
      expect(vms[0].points).toMatchObject([
        { id: newer, keep: true },
        { id: older, keep: true, forgotten: false, reasons: [expect.stringMatching(/^locked until 20\d\d-/)] },
      ])
    }
    const named = await session.json(['forget', older], 6)
    expect(named.error).toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('is locked until') })
    expect(await pointsOf()).toEqual([older, newer])
    expect(await restic(bucket, 'list', 'locks')).toBe('')
  }, 120_000)

  it('with Object Lock, vcb renew-locks keeps what young points need as long as them, and says so before and after', async () => {
    const bucket = await makeBucket(server, { objectLock: true })
    await configure(bucket, ', objectLock: { mode: governance, days: 2 }')
    await makeRepository(bucket)
    for (let night = 0; night < 2; night++) await session.json(['backup', 'web01', '--quiesce', 'none'])
    // As if they were of two nights ago, in effect: what is to be kept is to be so for longer than it was saved for.
    await configure(bucket, ', objectLock: { mode: governance, days: 30 }')
    const points = await pointsOf()
    const planned = await session.json(['renew-locks', '--dry-run'])
    expect(planned).toMatchObject({ dryRun: true, snapshots: 2 })
    expect(planned.lengthened).toBeGreaterThan(5)
    expect(planned.short.map(({ snapshot }: Json) => snapshot).toSorted()).toEqual(points.toSorted())
    const checked = await session.json(['check', '--structure-only'])
    expect(checked.problems).toEqual([])
    expect(checked.short).toEqual(planned.short)
    expect((await session.vcb('check', '--structure-only')).out).toMatch(/2 points need what is kept shorter than .*renew-locks/u)
    const done = await session.json(['renew-locks'])
    expect(done).toMatchObject({ dryRun: false, snapshots: 2, lengthened: planned.lengthened, short: [] })
    expect(await session.json(['renew-locks'])).toMatchObject({ asked: 0, lengthened: 0, short: [] })
    expect((await session.json(['check', '--structure-only'])).short).toEqual([])
    const text = await session.vcb('renew-locks')
    expect(text).toMatchObject({ exit: 0, out: expect.stringMatching(/^Made 0 locks longer for 2 points in restic:s3:/u) })
    const { repositories, finished } = await session.json(['status'])
    expect(repositories.filter(({ locks }: Json) => locks !== undefined)).toMatchObject([
      { points: 2, locks: { short: 0, renewedAt: expect.any(String) } },
    ])
    expect(finished.filter(({ kind }: Json) => kind === 'renew-locks').length).toBeGreaterThan(3)
    expect((await session.vcb('status')).out).toContain(', locks renewed 20')
    expect(await restic(bucket, 'list', 'locks')).toBe('')
    await restic(bucket, 'check', '--read-data')
    const other = await makeBucket(server)
    await configure(other)
    await makeRepository(other)
    expect((await session.json(['renew-locks'], 2)).error).toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('is not kept by Object Lock'),
    })
  }, 120_000)
})
