import { existsSync, readdirSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LabSession } from '../flow/lab-session.ts'
import { COMMAND, leasesOf, openMountSession, until } from '../flow/mount-world.ts'
import { EmulatedJob, quoted } from './emulated-caller.ts'
import { expectGone, expectNothingLeft } from './guest-files.ts'
import { type Module, readModules } from './module.ts'

/**
 * The eight cases of the conformance suite with the real command, real leases, and snapshots counted in the lab. Two integrations stand for all: every other one calls
 * the same generic scripts, and what it says in its own lines conformance.test.ts tests for each. The second is there for its owner, which is looked up by name.
 */
let session: LabSession
let world: ConstructorParameters<typeof EmulatedJob>[1]
let runs = 0
beforeAll(async () => {
  session = await openMountSession()
  const { directory } = session
  const root = join(directory, 'mnt')
  await mkdir(root)
  const command = join(directory, 'vcb')
  // A caller has no environment of ours.
  const exported = Object.entries(session.environment).map(([name, value]) => `export ${name}=${quoted(value)}\n`)
  await writeFile(command, `#!/bin/sh\n${exported.join('')}exec ${quoted(process.execPath)} ${quoted(COMMAND)} "$@"\n`, { mode: 0o755 })
  const settings = join(directory, 'scripts.conf')
  const all = { VCB_COMMAND: command, VCB_MOUNT_ROOT: root, VCB_SCRIPTS_STATE: join(directory, 'scripts'), VCB_TYPE: 'disk' }
  await writeFile(
    settings,
    Object.entries(all)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  )
  world = { directory, settings, mountOf: (vm) => join(root, vm) }
})
afterAll(() => session[Symbol.asyncDispose]())
afterEach(async () => {
  await session.lab.control.clearFaults()
  // A failing test must not take the next ones down with what it left.
  for (const lease of await leasesOf(session)) await session.vcb('unmount', lease.lease)
})

/** The VMs that have a snapshot of ours. */
const frozen = async (): Promise<readonly string[]> =>
  (await session.lab.control.state()).vms
    .filter(({ snapshots }) => snapshots.some(({ name }) => name.includes('vcb-proxy')))
    .map(({ name }) => name)

async function started(module: Module, vm: string, asked?: ConstructorParameters<typeof EmulatedJob>[4]): Promise<EmulatedJob> {
  const job = new EmulatedJob(module, world, vm, `${module.product}-${++runs}`, asked)
  await until('the end of pre-backup', async () => job.log().length > 0)
  return job
}

/** The same as soon as the lease has ended by itself. */
async function expectOver(): Promise<void> {
  await expectGone(session, 15_000)
  expect(await frozen()).toEqual([])
}

describe.each(
  readModules()
    .filter(({ product }) => ['generic', 'rsnapshot'].includes(product))
    .map((module) => [module.product, module] as const),
)('%s with the real command', (_, module) => {
  it('success', async () => {
    const job = await started(module, 'one')
    expect([job.log(), job.output('pre.err')]).toEqual([['pre 0'], ''])
    expect(await frozen()).toEqual(['one'])
    expect(existsSync(join(world.mountOf('one'), '.vcb/manifest.json'))).toBe(true)
    job.tell('success')
    expect(await job.ended()).toBe(0)
    expect(job.log()).toEqual(['pre 0', 'post 0'])
    expect((['pre.out', 'pre.err', 'post.out', 'post.err'] as const).map((each) => job.output(each))).toEqual(['', '', '', ''])
    expect(await frozen()).toEqual([])
    await expectNothingLeft(session)
    expect(readdirSync(world.mountOf('one'))).toEqual([])
  })

  it.each(['SIGKILL', 'SIGTERM'] as const)('the product is ended by %s: the lease ends by itself', async (signal) => {
    const job = await started(module, 'one')
    expect(await frozen()).toEqual(['one'])
    job.signal(signal)
    expect(await job.ended()).toBe(signal)
    await expectOver()
  })

  it('post is never called', async () => {
    const job = await started(module, 'one', { post: 'never' })
    job.tell('success')
    await job.ended()
    expect(await frozen()).toEqual(['one'])
    await expectOver()
  })

  if (module.product !== 'generic') return

  it('pre fails', async () => {
    await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', taskError: 'InvalidState' })
    const job = await started(module, 'one')
    expect(await job.ended()).toBe(1)
    expect(job.log()).toEqual([expect.stringMatching(/^pre [1-9]/)])
    expect(job.output('pre.err')).toMatch(/^\S+: one: [^\n]+\n$/)
    expect(await frozen()).toEqual([])
    await expectNothingLeft(session)
  })

  it('the product fails', async () => {
    const job = await started(module, 'one')
    job.tell('failure')
    expect(await job.ended()).toBe(1)
    expect(job.log()).toEqual(['pre 0', 'post 0'])
    expect(await frozen()).toEqual([])
    await expectNothingLeft(session)
  })

  it('post is called twice', async () => {
    const job = await started(module, 'one', { post: 'twice' })
    job.tell('success')
    expect(await job.ended()).toBe(0)
    expect(job.log()).toEqual(['pre 0', 'post 0', 'post 0'])
    await expectNothingLeft(session)
  })

  it('two VMs at once: each ends its own', async () => {
    const [one, two] = await Promise.all([started(module, 'one'), started(module, 'two')])
    expect([...(await frozen())].sort()).toEqual(['one', 'two'])
    one.tell('success')
    expect(await one.ended()).toBe(0)
    expect(await frozen()).toEqual(['two'])
    expect(readdirSync(world.mountOf('two'))).not.toEqual([])
    two.tell('success')
    expect(await two.ended()).toBe(0)
    await expectNothingLeft(session)
  })
})
