import { hash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Agent } from '../../src/agent/agent.ts'
import { renewalWork } from '../../src/agent/after-renewal.ts'
import { checkedPlace } from '../../src/agent/check-record.ts'
import { loadConfig } from '../../src/agent/config/config.ts'
import { readRepositories } from '../../src/agent/repository-status.ts'
import { Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import { Bucket } from '../../src/restic/s3/bucket.ts'
import { diskRef, noise, WatchedDisk, writePoint } from '../contract/provider-fixtures.ts'
import { describePeers } from '../peer.ts'
import { FAST_KDF } from '../peers/restic-fixture.ts'
import { startPostgres } from '../postgres.ts'
import { hurriedClock, makeBucket, s3Client, s3Place } from '../s3-place.ts'
import { S3_SERVER_PEERS, type S3Server, type S3User, startS3Server } from '../s3-server.ts'

const DAY = 24 * 3_600_000
let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-renewals-'))
  await writeFile(join(directory, 'password'), 'secret\n', { mode: 0o600 })
})
afterAll(() => rm(directory, { recursive: true, force: true }))

/* The agent's own renewal, after the runs of a job. */
describePeers([...S3_SERVER_PEERS, 'postgres'], 'what follows a cycle', (programs) => {
  let server: S3Server
  beforeAll(async () => {
    server = await startS3Server(programs)
  }, 90_000)
  afterAll(() => server?.[Symbol.asyncDispose]())

  /** A bucket with two points that share their blocks, locked for a day. */
  const makePoints = async (): Promise<string> => {
    const bucket = await makeBucket(server, { objectLock: true })
    await using provider = await openResticProvider(s3Place(server, bucket, { objectLock: { mode: 'governance', days: 1 } }), {
      clock: hurriedClock,
      log: silentLog,
      random: randomBytes,
      hostname: 'proxy',
      username: 'vcb',
      pid: process.pid,
      password: new Secret('secret'),
      init: true,
      kdf: FAST_KDF,
      workers: 1,
    })
    for (let round = 0; round < 2; round++) {
      const source = new WatchedDisk(noise(256 * 1024, 1))
      await writePoint(provider, [{ disk: diskRef(2000, source.size), source }], { time: systemClock.now().toISOString() })
    }
    return bucket
  }
  const urlOf = (bucket: string): string => `s3:${server.endpoint}/${bucket}/backups/repo`
  const ends = async (bucket: string): Promise<readonly number[]> => {
    await using client = new Bucket(s3Client(server, bucket))
    const { objects } = await client.page('backups/repo/', undefined)
    const kept = objects.filter(({ key }) => !key.includes('/locks/')).map(({ key }) => client.retention(key))
    return (await Promise.all(kept)).map((each) => (typeof each === 'object' ? each.until - systemClock.now().getTime() : 0))
  }

  /** An agent whose job writes to one bucket and copies to another. */
  const open = async (state: string, buckets: readonly [string, string], user: S3User, more = ''): Promise<Agent> => {
    await writeFile(join(directory, `${user.name}.secret`), `${user.secretAccessKey}\n`, { mode: 0o600 })
    const file = join(directory, `${state}.yaml`)
    const s3 = `{ accessKeyId: ${user.accessKeyId}, secretAccessKeyFile: ${user.name}.secret, objectLock: { mode: governance, days: 30 } }`
    const entries = buckets.map((bucket, index) => `  r${index}: { url: "${urlOf(bucket)}", passwordFile: password, s3: ${s3} }\n`)
    await writeFile(
      file,
      `repositories:\n${entries.join('')}jobs:\n  - { name: nightly, select: [web01], repository: r0, copyTo: [r1], timeZone: UTC, rpo: 24h }\n${more}`,
    )
    const config = await loadConfig({}, { VCB_CONFIG: file, VCB_STATE_DIR: join(directory, state) })
    return await Agent.open(config, { clock: systemClock, log: silentLog, signal: new AbortController().signal, kind: 'agent' })
  }

  it('keeps longer what points need, in the repository of the job and in its copies; a missing right is told and stops nothing', async () => {
    const buckets = [await makePoints(), await makePoints()] as const
    for (const bucket of buckets) {
      await using owner = s3Client(server, bucket)
      const resource = [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`]
      const principal = { AWS: ['arn:aws:iam:::user/stranger'] }
      const denied = { Effect: 'Deny', Principal: principal, Action: ['s3:PutObjectRetention'], Resource: resource }
      const allowed = { Effect: 'Allow', Principal: principal, Action: ['s3:*'], Resource: resource }
      const body = Buffer.from(JSON.stringify({ Version: '2012-10-17', Statement: [allowed, denied] }))
      await owner.send({ method: 'PUT', query: { policy: '' }, body, bodySha256: hash('sha256', body), what: 'grant' })
    }
    const told: string[] = []
    const failed = async (_job: unknown, work: string, { code, message }: { code: string; message: string }): Promise<void> =>
      void told.push(`${work} ${code} ${message}`)
    {
      await using poor = await open('one', buckets, server.stranger)
      const [job = expect.fail()] = poor.config.jobs
      const work = renewalWork(poor, () => poor.config, 'points', failed)
      expect(work.wanted(job)).toBe(true)
      expect(work.wanted({ ...job, repository: 'elsewhere' })).toBe(false)
      await work.work(job, [], {})
      expect(told).toEqual([expect.stringMatching(/^renewal of locks CONFIG The Object Lock of \S+ in \S+ could not be made longer/u)])
      expect(Math.max(...(await ends(buckets[0])))).toBeLessThan(2 * DAY)
      expect(await readRepositories(poor)).toMatchObject([
        {
          url: checkedPlace(urlOf(buckets[0])),
          locks: { renewedAt: undefined, short: 0, problem: { what: expect.stringContaining('could not be made longer') } },
        },
      ])
    }
    await using agent = await open('one', buckets, server.owner)
    const [job = expect.fail()] = agent.config.jobs
    await renewalWork(agent, () => agent.config, 'points', failed).work(job, [], {})
    expect(Math.min(...(await ends(buckets[0])))).toBeGreaterThan(29 * DAY)
    expect(Math.max(...(await ends(buckets[1])))).toBeLessThan(2 * DAY)
    await renewalWork(agent, () => agent.config, 'copies', failed).work(job, [], {})
    expect(Math.min(...(await ends(buckets[1])))).toBeGreaterThan(29 * DAY)
    expect(told).toHaveLength(1)
    const locks = { renewedAt: expect.any(String), short: 0, problem: undefined }
    expect((await readRepositories(agent)).map((each) => each.locks)).toEqual([locks, locks])
    expect((await agent.journal.finished(9)).map(({ kind, outcome }) => `${kind} ${outcome.result}`)).toEqual([
      'renew-locks succeeded',
      'renew-locks succeeded',
      'renew-locks failed',
    ])
  })

  it('agents of one database take turns, and each makes longer what is too short alone', async () => {
    await using postgres = await startPostgres(programs.postgres)
    const more = `state: { url: ${JSON.stringify(postgres.url(await postgres.database()))} }\n`
    const buckets = [await makePoints(), await makePoints()] as const
    await using one = await open('pg1', buckets, server.owner, `${more}proxy: { name: one }\n`)
    await using two = await open('pg2', buckets, server.owner, `${more}proxy: { name: two }\n`)
    const failures: unknown[] = []
    const failed = async (...what: readonly unknown[]): Promise<void> => void failures.push(what)
    const agents = [one, two]
    const [job = expect.fail()] = one.config.jobs
    let most = 0
    const watching = systemClock.every(
      5,
      async () => {
        const uses = (await one.buckets.inUse()).find(({ name }) => name.startsWith('renewals of the locks'))?.uses ?? []
        most = Math.max(most, uses.filter(({ waits }) => !waits).length)
      },
      () => undefined,
    )
    await Promise.all(agents.map((agent) => renewalWork(agent, () => agent.config, 'points', failed).work(job, [], {})))
    watching[Symbol.dispose]()
    expect(failures).toEqual([])
    expect(most).toBeLessThanOrEqual(1)
    expect(Math.min(...(await ends(buckets[0])))).toBeGreaterThan(29 * DAY)
    const locks = { renewedAt: expect.any(String), short: 0, problem: undefined }
    for (const agent of agents) expect((await readRepositories(agent)).map((each) => each.locks)).toEqual([locks])
  })
})
