import { glob, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { digestOfFile, type LabSession } from '../flow/lab-session.ts'
import { leasesOf, openGuestFiles, until, untilNoLease } from '../flow/mount-world.ts'
import { canMount, requireMounting } from '../mount-world.ts'
import { describePeers } from '../peer.ts'
import { BACULA, type BaculaWorld, baculaWorld } from './bacula-world.ts'
import { expectFiles, expectGone, expectNothingLeft, VMS } from './guest-files.ts'
import { productWorld } from './product-world.ts'

/** An owner that is gone is seen within two seconds; the rest is the release and a busy machine. */
const LEASE_MS = 20_000

/**
 * Bacula itself (director, storage daemon, file daemon) with the sample configuration of integrations/bacula, the real command and the lab:
 * one world for all cases, because three daemons and a catalog take seconds to come up.
 */
describePeers(BACULA, 'Bacula', () => {
  let session: LabSession
  let bacula: BaculaWorld
  let opened: AsyncDisposableStack | undefined
  /** The job with the files of `linux`. */
  let stored: string | undefined
  beforeAll(async () => {
    if (!canMount()) return
    await using stack = new AsyncDisposableStack()
    session = stack.use(await openGuestFiles())
    stack.defer(async () => {
      for (const { lease } of await leasesOf(session)) await session.vcb('unmount', lease)
    })
    bacula = stack.use(await baculaWorld(await productWorld(session), { vms: ['linux', 'windows', 'absent'], images: ['linux'] }))
    opened = stack.move()
  })
  afterAll(() => opened?.disposeAsync())

  /** Puts back what a job stored; the directory. */
  async function restored(jobId: string): Promise<string> {
    const where = join(session.directory, `restored-${jobId}`)
    const restore = await bacula.start(`restore client=proxy-fd jobid=${jobId} where=${where} all done yes`)
    expect(await bacula.ended(restore)).toMatchObject({ status: 'T', errors: 0 })
    return where
  }

  /** A job that is reading: it has sent some of 660 kB, at this rate. */
  async function reading(kilobytesPerSecond = 20): Promise<string> {
    await bacula.console(`setbandwidth client=proxy-fd limit=${kilobytesPerSecond}kb/s`)
    const jobId = await bacula.start('run job=linux yes')
    await until('Bacula reads', async () => /Files=\d+ Bytes=[1-9]/.test(await bacula.console('status client=proxy-fd')))
    expect((await leasesOf(session)).map(({ state }) => state)).toEqual(['ready'])
    return jobId
  }

  it('stores the files of both VMs at once and restores them equal', async () => {
    requireMounting()
    const jobs = await Promise.all(VMS.map(([vm]) => bacula.start(`run job=${vm} yes`)))
    for (const jobId of jobs) expect(await bacula.ended(jobId), await bacula.messages(jobId)).toMatchObject({ status: 'T', errors: 0 })
    await expectNothingLeft(session)
    stored = jobs[0]
    const directories = await Promise.all(jobs.map(restored))
    for (const [index, [vm, names]] of VMS.entries()) {
      const directory = directories[index] ?? ''
      await expectFiles(names, directory)
      expect(await readdir(join(directory, session.directory, 'mnt', vm))).toEqual(['digits'])
    }
  })

  it('stores the disks of a job that is named as one of VCB', async () => {
    requireMounting()
    const jobId = await bacula.start('run job=linux-fullVM yes')
    expect(await bacula.ended(jobId), await bacula.messages(jobId)).toMatchObject({ status: 'T', errors: 0 })
    await expectNothingLeft(session)
    const [disk = ''] = await Array.fromAsync(glob(join(await restored(jobId), '**', '*.raw')))
    expect(await digestOfFile(disk)).toBe((await session.frozenDigests('linux')).get('scsi0:0'))
  })

  it('calls a job failed whose pre-backup failed', async () => {
    requireMounting()
    const jobId = await bacula.start('run job=absent yes')
    expect(await bacula.ended(jobId)).toMatchObject({ status: 'f', files: 0 })
    expect(await bacula.messages(jobId)).toMatch(/pre-backup: absent: /)
    await expectNothingLeft(session)
  })

  it('leaves nothing after a cancel; a duplicate that is turned away ends nobody else', async () => {
    requireMounting()
    const jobId = await reading()
    const duplicate = await bacula.start('run job=linux yes')
    await bacula.ended(duplicate)
    expect(await bacula.messages(duplicate)).toContain('Duplicate job not allowed')
    expect((await leasesOf(session)).map(({ state }) => state)).toEqual(['ready'])
    await bacula.console(`cancel jobid=${jobId} yes`)
    await expectGone(session, LEASE_MS)
    expect(await bacula.ended(jobId)).toMatchObject({ status: 'A' })
  })

  it('calls a job failed whose lease ended while it read, and restores the one before', async () => {
    requireMounting()
    const jobId = await reading(40)
    const [{ lease }] = await leasesOf(session)
    await session.json(['cancel', lease])
    await untilNoLease(session)
    await bacula.console('setbandwidth client=proxy-fd limit=0')
    expect(await bacula.ended(jobId), await bacula.messages(jobId)).toMatchObject({ status: 'E' })
    await expectGone(session, LEASE_MS)
    // 5 of its menu: the most recent backup.
    const [, latest] =
      /selected the following JobId: (\d+)\n/.exec(await bacula.console('restore client=proxy-fd fileset=linux-files', '5')) ?? []
    expect(latest).toBe(stored)
  })

  it('leaves nothing when the file daemon is killed; the next one works', async () => {
    requireMounting()
    const jobId = await reading()
    await bacula.kill('bacula-fd')
    await expectGone(session, LEASE_MS)
    // The director itself says it a minute later.
    expect(await bacula.console('status dir')).toMatch(new RegExp(`^ *${jobId} .*linux +has a fatal error`, 'm'))
    await bacula.restart('bacula-fd')
    const next = await bacula.start('run job=windows yes')
    expect(await bacula.ended(next), await bacula.messages(next)).toMatchObject({ status: 'T', errors: 0 })
    await expectNothingLeft(session)
  })
})
