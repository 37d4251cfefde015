import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import type { LabSession } from '../flow/lab-session.ts'
import { leasesOf, openGuestFiles, until } from '../flow/mount-world.ts'
import { requireMounting } from '../mount-world.ts'
import { requirePeer } from '../peer.ts'
import { expectGone } from './guest-files.ts'
import { Gate, Job } from './mid-run.ts'
import { INTEGRATIONS } from './module.ts'
import { type ProductWorld, productWorld, VCB_RUN } from './product-world.ts'

/**
 * A job of each product that is canceled or killed while it reads the files and the disks of a guest: the lab has no snapshot of ours within the lease time, nothing is mounted,
 * nothing hangs, and the product has no backup that looks whole. The four run at the same time, each on a VM of its own.
 */
type Product = 'restic' | 'borg' | 'borgmatic' | 'rsnapshot'
const PRODUCTS: readonly Product[] = ['restic', 'borg', 'borgmatic', 'rsnapshot']
const READER: Readonly<Record<Product, string>> = { restic: 'restic', borg: 'borg', borgmatic: 'borg', rsnapshot: 'rsync' }
/** Two seconds after the owner, and what the release takes beside three others. */
const LEASE_MS = 20_000

/** In which a job that was asked to end does. */
const ENDS_MS = 25_000
/** What a read takes in mid-run. */
const READ_MS = 1000

let session: LabSession
let world: ProductWorld
beforeAll(async () => {
  session = await openGuestFiles({ 'vm-restic': 'ext4', 'vm-borg': 'ntfs', 'vm-borgmatic': 'ext4', 'vm-rsnapshot': 'ntfs' }, ['16MiB'])
  // Read from the server, so that a read can be made slow.
  world = await productWorld(session, { VCB_DATASTORES: undefined, VCB_TRANSPORT: 'https', VCB_TYPE: 'file,disk' })
})
afterAll(() => session[Symbol.asyncDispose]())
afterEach(async () => {
  await session.lab.control.clearFaults()
  // A failing test must not take the next ones down with what it left.
  for (const lease of await leasesOf(session)) await session.vcb('unmount', lease.lease)
})

/** Starts a job of a product on its VM; with `gate` it waits before it reads. */
async function start(product: Product, gate: Gate): Promise<Job> {
  const { root, environment } = world
  const vm = `vm-${product}`
  const program = requirePeer(product)
  const wrapped = (...command: readonly string[]): Job =>
    new Job(environment, VCB_RUN, '--vm', vm, '--', ...gate.before(program, ...command))
  const pre = join(INTEGRATIONS, product, 'pre-backup')
  switch (product) {
    case 'restic':
      return wrapped('backup', '-q', '--host', vm, join(root, vm))
    case 'borg':
      return wrapped('create', '::vm', join(root, vm))
    case 'borgmatic':
      return new Job(environment, program, ...(await world.borgmatic(vm, [[pre, gate.behind(pre)]])), 'create')
    case 'rsnapshot':
      return new Job(environment, program, ...(await world.rsnapshotOf(vm, [[pre, gate.behind(pre)]])), 'sync')
  }
}

/** The backups that the product itself lists as good ones. */
async function stored(product: Product): Promise<unknown> {
  const program = requirePeer(product)
  switch (product) {
    case 'restic':
      return JSON.parse(await world.run(program, 'snapshots', '-q', '--no-lock', '--json'))
    case 'borg':
      return (await world.run(program, 'list', '--bypass-lock', '--short')).split('\n').filter((line) => line !== '')
    case 'borgmatic':
      return JSON.parse(await world.run(program, ...(await world.borgmatic('vm-borgmatic')), 'list', '--json')).flatMap(
        ({ archives }: { archives: readonly unknown[] }) => archives,
      )
    case 'rsnapshot':
      return (await readdir(join(session.directory, 'backup-rsnapshot', 'rsnapshot', 'vm-rsnapshot'))).filter((name) => name !== '.sync')
  }
}

let round = 0

describe('a job in mid-run', () => {
  it('can be started: the repositories are there', async () => {
    requireMounting()
    await world.run(requirePeer('restic'), 'init', '-q')
    await world.run(requirePeer('borg'), 'init', '-e', 'none')
    await world.run(requirePeer('borgmatic'), ...(await world.borgmatic('vm-borgmatic')), 'init', '-e', 'repokey')
  })

  it.each([
    ['canceled by Ctrl-C, a SIGINT to all of it', (_: Product, job: Job) => job.signalAll('SIGINT')],
    ['ended by SIGTERM to what was started', (_: Product, job: Job) => job.signal('SIGTERM')],
    ['whose wrapper or product is killed alone', (_: Product, job: Job) => job.signal('SIGKILL')],
    ['whose reading program is killed', (product: Product, job: Job) => job.signalReader(READER[product], 'SIGKILL')],
    ['killed with all its processes', (_: Product, job: Job) => job.signalAll('SIGKILL')],
  ])('%s leaves nothing, and no backup that looks whole', async (_, strike) => {
    requireMounting()
    round++
    const running = await Promise.all(
      PRODUCTS.map(async (product) => {
        const gate = new Gate(session.directory, `${product}-${round}`)
        const job = await start(product, gate)
        await gate.reached()
        const slow = await session.lab.control.fault({ on: 'folder:GET', object: `vm-${product}`, delayMs: READ_MS })
        gate.open()
        await until(`${product} reads`, async () =>
          (await session.lab.control.faults()).some(({ id, struck }) => id === slow && struck > 0),
        )
        return { product, job }
      }),
    )
    for (const { product, job } of running) strike(product, job)
    // Who only ends behind what it is reading shall not be waited for all that time.
    await session.lab.control.clearFaults()
    await Promise.all(
      running.map(async ({ product, job }) => {
        const status = await Promise.race([job.ended, systemClock.sleep(ENDS_MS).then(() => `still runs: ${job.said}`)])
        expect([product, status]).toEqual([product, expect.anything()])
        expect([product, status]).not.toEqual([product, 0])
        expect(String(status)).not.toContain('still runs')
      }),
    )
    await expectGone(session, LEASE_MS)
    for (const product of PRODUCTS) expect([product, await stored(product)]).toEqual([product, []])
  })
})
