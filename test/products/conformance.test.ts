import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { EmulatedJob } from './emulated-caller.ts'
import { INTEGRATIONS, type Module, readModules } from './module.ts'
import { AWKWARD, OTHER, StandIn } from './stand-in.ts'

/**
 * Every integration against the contract of docs/integrations.md: an emulated caller does what the product's documentation says, the
 * stand-in of the command keeps the leases. The products themselves run in the real tests beside this file. Some 230 jobs, each
 * with its own processes and some with a deadline to wait for, take longer than a test should (half a minute); cases cannot share a world.
 */
const post = join(INTEGRATIONS, 'generic', 'post-backup')

async function until(what: () => boolean, seconds = 10): Promise<void> {
  const tries = seconds * 25
  for (let each = 0; each < tries && !what(); each++) await sleep(40)
  expect(what(), `${what.toString()} within ${seconds} s`).toBe(true)
}

/** A job whose pre-backup is done. */
async function started(module: Module, world: StandIn, vm: string, run: string, asked?: ConstructorParameters<typeof EmulatedJob>[4]) {
  const job = new EmulatedJob(module, world, vm, run, asked)
  await until(() => job.log().length > 0)
  return job
}

/** A lease that no owner watches ends by its deadline, in a real set-up by --idle before that. */
const short = (module: Module): Readonly<Record<string, string>> => (module.owners.length > 0 ? {} : { VCB_MAX_HOLD: '2s' })
/** The slowest cases are the same for all that call alike: a script that is its own owner, an owner found by name, a daemon, a plug-in. */
const ONE_OF_EACH_KIND = new Set(['generic', 'rsnapshot', 'bareos', 'amanda', 'kopia'])
const oneLine = /^\S+: [^\n]+\n$/

describe.concurrent.each(readModules().map((module) => [module.product, module] as const))('%s', (_, module) => {
  it('success: shown, read, ended, nothing left', async () => {
    using world = new StandIn()
    const job = await started(module, world, AWKWARD, '11')
    expect(job.log()).toEqual(['pre 0'])
    expect(world.shown()).toEqual([AWKWARD])
    expect(readFileSync(join(world.mountOf(AWKWARD), 'hostname'), 'utf8')).toBe('the guest\n')
    expect(existsSync(join(world.mountOf(AWKWARD), '.vcb/manifest.json'))).toBe(true)
    job.tell('success')
    expect(await job.ended()).toBe(0)
    expect(job.log()).toEqual(['pre 0', 'post 0'])
    expect(['pre.out', 'pre.err', 'post.out', 'post.err'].map((each) => job.output(each as 'pre.out'))).toEqual(['', '', '', ''])
    expect(world.states()).toEqual([])
    await world.expectNothingLeft()
  })

  it('pre fails: its status, one line, all undone; a post that follows is 0', async () => {
    using world = new StandIn()
    world.inject('fail', '8')
    const job = await started(module, world, AWKWARD, '11')
    if (module.calls.afterFailedPre === 'backup') job.tell('failure')
    expect(await job.ended()).toBe(1)
    expect(job.log()).toEqual(['pre 8', ...(module.calls.afterFailedPre === 'stop' ? [] : ['post 0'])])
    expect(job.output('pre.err')).toMatch(oneLine)
    expect(world.states()).toEqual([])
    await world.expectNothingLeft()
  })

  it('the product fails', async () => {
    using world = new StandIn()
    const job = await started(module, world, AWKWARD, '11')
    job.tell('failure')
    expect(await job.ended()).toBe(1)
    expect(job.log()).toEqual(['pre 0', 'post 0'])
    await world.expectNothingLeft()
  })

  it('the product is killed: the lease ends by itself', async () => {
    using world = new StandIn(short(module))
    const job = await started(module, world, AWKWARD, '11')
    expect(world.shown()).toEqual([AWKWARD])
    job.signal('SIGKILL')
    expect(await job.ended()).toBe('SIGKILL')
    await until(() => world.leases().length + world.processes().length + world.states().filter((name) => name.startsWith('.')).length === 0)
    await world.expectNothingLeft()
  })

  it('canceled: post where the product calls it, else the lease ends by itself', async () => {
    using world = new StandIn(short(module))
    const job = await started(module, world, AWKWARD, '11')
    job.signal('SIGTERM')
    await job.ended()
    if (module.calls.postAfter.includes('cancel')) expect(job.log()).toEqual(['pre 0', 'post 0'])
    await until(() => world.leases().length + world.processes().length + world.states().filter((name) => name.startsWith('.')).length === 0)
    await world.expectNothingLeft()
  })

  it('post is never called: the lease ends by itself', async () => {
    using world = new StandIn(short(module))
    const job = await started(module, world, AWKWARD, '11', { post: 'never' })
    job.tell('success')
    await job.ended()
    await until(() => world.leases().length + world.processes().length + world.states().filter((name) => name.startsWith('.')).length === 0)
    await world.expectNothingLeft()
  })

  it('post is called twice: the second ends nothing and is 0', async () => {
    using world = new StandIn()
    const job = await started(module, world, AWKWARD, '11', { post: 'twice' })
    job.tell('success')
    expect(await job.ended()).toBe(0)
    expect(job.log()).toEqual(['pre 0', 'post 0', 'post 0'])
    await world.expectNothingLeft()
  })

  it('two VMs at once: each ends its own', async () => {
    using world = new StandIn()
    const [one, two] = await Promise.all([started(module, world, AWKWARD, '11'), started(module, world, OTHER, '12')])
    expect(world.shown()).toEqual([OTHER, AWKWARD])
    one.tell('success')
    expect(await one.ended()).toBe(0)
    expect(world.shown()).toEqual([OTHER])
    expect(readdirSync(world.mountOf(OTHER))).not.toEqual([])
    two.tell('success')
    expect(await two.ended()).toBe(0)
    await world.expectNothingLeft()
  })

  it('a second job on the same VM is turned away, and its post leaves the first alone', async () => {
    using world = new StandIn()
    const first = await started(module, world, AWKWARD, '11')
    const second = await started(module, world, AWKWARD, '12')
    if (module.calls.afterFailedPre === 'backup') second.tell('failure')
    expect(await second.ended()).toBe(1)
    expect(second.log()).toEqual(['pre 6', ...(module.calls.afterFailedPre === 'stop' ? [] : ['post 0'])])
    expect(world.shown()).toEqual([AWKWARD])
    expect(readdirSync(world.mountOf(AWKWARD))).not.toEqual([])
    first.tell('success')
    expect(await first.ended()).toBe(0)
    expect(first.log()).toEqual(['pre 0', 'post 0'])
    await world.expectNothingLeft()
  })

  it('a wrong token ends nothing', async () => {
    using world = new StandIn()
    const job = await started(module, world, AWKWARD, '11')
    const asked = ['--product', module.product, '--token']
    const unknown = world.run(post, ['--vm', AWKWARD, ...asked, 'not-a-lease'])
    expect(unknown).toMatchObject({ status: 0, stdout: '', stderr: '' })
    const others = world.run(post, ['--vm', OTHER, ...asked, world.leases()[0] ?? ''])
    expect(others.status).toBe(2)
    expect(others.stderr).toMatch(oneLine)
    expect(world.shown()).toEqual([AWKWARD])
    const right = world.run(post, ['--vm', AWKWARD, ...asked, world.leases()[0] ?? ''])
    expect(right).toMatchObject({ status: 0, stdout: '', stderr: '' })
    job.tell('success')
    expect(await job.ended()).toBe(0)
    await world.expectNothingLeft()
  })

  it('pre without an agent', async () => {
    using world = new StandIn({ VCB_COMMAND: '/nowhere/vcb' })
    const job = await started(module, world, AWKWARD, '11')
    expect(job.log()[0]).toBe('pre 3')
    expect(job.output('pre.err')).toMatch(oneLine)
    if (module.calls.afterFailedPre === 'backup') job.tell('failure')
    expect(await job.ended()).toBe(1)
    expect(readdirSync(world.mountOf(AWKWARD))).toEqual([])
    await world.expectNothingLeft()
  })

  it('a read error under way: post says so, and the product calls the job failed', async () => {
    using world = new StandIn()
    const job = await started(module, world, AWKWARD, '11')
    world.inject('damaged')
    job.tell('success')
    expect(await job.ended()).toBe(1)
    expect(job.log()).toEqual(['pre 0', 'post 9'])
    expect(job.output('post.err')).toMatch(oneLine)
    expect(world.states()).toEqual([])
    await world.expectNothingLeft()
  })

  if (!ONE_OF_EACH_KIND.has(module.product)) return

  it('the lease ended before the product was done: not a success', async () => {
    using world = new StandIn({ VCB_MAX_HOLD: '1s' })
    const job = await started(module, world, AWKWARD, '11')
    await until(() => world.leases().length === 0)
    job.tell('success')
    expect(await job.ended()).toBe(1)
    expect(job.log()).toEqual(['pre 0', 'post 9'])
    expect(job.output('post.err')).toMatch(/had ended before the product was done/)
    await world.expectNothingLeft()
  })

  it('the caller goes while pre works: undone, not reported', async () => {
    using world = new StandIn()
    world.inject('delay', '25')
    const job = new EmulatedJob(module, world, AWKWARD, '11', { limit: false })
    await until(() => existsSync(join(world.directory, 'calls')))
    job.signal('SIGKILL')
    await job.ended()
    await until(() => world.leases().length + world.processes().length + world.states().filter((name) => name.startsWith('.')).length === 0)
    expect(readFileSync(join(world.directory, 'calls'), 'utf8')).toMatch(/^mount [^]*^unmount /m)
    expect(world.states()).toEqual([])
    await world.expectNothingLeft()
  })

  it('slower than its limit: undone, 11', async () => {
    using world = new StandIn({ VCB_LIMIT: '1' })
    world.inject('delay', '50')
    const job = await started(module, world, AWKWARD, '11')
    expect(job.log()[0]).toBe('pre 11')
    expect(job.output('pre.err')).toMatch(/not ready within 1 s/)
    if (module.calls.afterFailedPre === 'backup') job.tell('failure')
    expect(await job.ended()).toBe(1)
    await world.expectNothingLeft()
  })
})
