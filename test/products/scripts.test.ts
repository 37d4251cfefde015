import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { requireMounting } from '../mount-world.ts'
import { describePeer, requirePeer } from '../peer.ts'
import { INTEGRATIONS, readModules } from './module.ts'
import { AWKWARD, OTHER, StandIn } from './stand-in.ts'

const files = readdirSync(INTEGRATIONS, { recursive: true, encoding: 'utf8' })
  .map((name) => join(INTEGRATIONS, name))
  .filter((path) => statSync(path).isFile())
const scripts = files.filter((path) => readFileSync(path, 'utf8').startsWith('#!/bin/sh') || path.endsWith('lease.sh'))
const generic = (name: string): string => join(INTEGRATIONS, 'generic', name)

describe('the scripts', () => {
  it('never let a shell look at a name: no eval', () => {
    for (const path of scripts) expect(readFileSync(path, 'utf8').replaceAll(/#.*/g, ''), path).not.toMatch(/\beval\b|\bsh -c\b/)
  })

  it('are there for every product, with a page that says what was run', () => {
    const modules = readModules()
    expect(modules.length).toBeGreaterThanOrEqual(18)
    for (const { product, proof, versions } of modules) {
      for (const name of ['pre-backup', 'post-backup'])
        expect(statSync(join(INTEGRATIONS, product, name)).mode & 0o111, product).toBe(0o111)
      const page = readFileSync(join(INTEGRATIONS, product, 'README.md'), 'utf8')
      expect(page, product).toContain('## What was run')
      expect(page.includes(`**Not `), product).toBe(proof === 'emulated')
      for (const version of versions) expect(page, product).toContain(version)
      expect(readFileSync(join(INTEGRATIONS, '..', 'docs', 'integrations.md'), 'utf8')).toContain(`../integrations/${product}/README.md`)
    }
  })
})

describePeer('shellcheck', 'shellcheck', (shellcheck) => {
  it('has nothing to say', () => {
    expect(scripts.length).toBeGreaterThan(40)
    const all = [...scripts, join(import.meta.dirname, 'stand-in', 'vcb')]
    expect(execFileSync(shellcheck, ['--shell=sh', ...all], { encoding: 'utf8' })).toBe('')
  })
})

describe('names and options', () => {
  it.each([
    ['web01-fullVM', 'web01', 'disk'],
    ['web-01-C-D', 'web-01', 'file'],
    ['web01', 'web01', 'file'],
  ])('the job %s is the VM %s as %s', async (job, vm, type) => {
    using world = new StandIn({}, ['web01', 'web-01'])
    execFileSync('mkdir', ['-p', join(world.data, 'letters/C'), join(world.data, 'letters/D')])
    const pre = world.run(generic('pre-backup'), ['--job', job])
    expect(pre).toMatchObject({ status: 0, stdout: '', stderr: '' })
    expect(world.shown()).toEqual([vm])
    expect(readFileSync(join(world.directory, 'calls'), 'utf8')).toContain(`[--type] [${type}]`)
    expect(world.run(generic('post-backup'), ['--job', job]).status).toBe(0)
    await world.expectNothingLeft()
  })

  it('a volume that the job names and the VM has not: 5, undone', async () => {
    using world = new StandIn({}, ['web01'])
    const pre = world.run(generic('pre-backup'), ['--job', 'web01-C'])
    expect(pre.status).toBe(5)
    expect(pre.stderr).toMatch(/no volume C/)
    await world.expectNothingLeft()
  })

  it.each([
    [[], /no VM is named/],
    [['--vm', 'a\nb'], /control character|more than one line/],
    [['--vm', '..'], /say --dir/],
    [['--vm', 'x', '--dir', 'relative'], /not absolute/],
    [['--vm', 'x', '--wait', 'soon'], /whole numbers/],
    [['--vm', 'x', '--nonsense', '1'], /no option/],
    [['--vm'], /needs a value/],
    [['--vm', 'x', 'y'], /after the options/],
  ])('%j is refused', (args, line) => {
    using world = new StandIn()
    const pre = world.run(generic('pre-backup'), args)
    expect(pre).toMatchObject({ status: 2, stdout: '' })
    expect(pre.stderr).toMatch(line)
    expect(pre.stderr.trimEnd()).not.toContain('\n')
    expect(existsSync(join(world.directory, 'calls'))).toBe(false)
  })

  it('a mount that a signal ends just after it told its lease is undone', async () => {
    using world = new StandIn()
    const command = join(world.directory, 'vcb')
    const inner = `${command}-inner`
    writeFileSync(inner, readFileSync(command, 'utf8'), { mode: 0o755 })
    writeFileSync(command, `#!/bin/sh\n'${inner}' "$@"\nstatus=$?\n[ "$1" != mount ] || kill -TERM $$\nexit $status\n`)
    expect(world.run(generic('pre-backup'), ['--vm', OTHER])).toMatchObject({ status: 11, stdout: '' })
    expect(readFileSync(join(world.directory, 'calls'), 'utf8')).toMatch(/unmount/)
    await world.expectNothingLeft()
  })

  it('a state directory that others can write to is refused', () => {
    using world = new StandIn()
    execFileSync('mkdir', ['-m', '777', world.state])
    expect(world.run(generic('pre-backup'), ['--vm', OTHER]).status).toBe(3)
  })

  it('a setting nobody knows is refused', () => {
    using world = new StandIn({ VCB_TYPO: '1' })
    expect(world.run(generic('pre-backup'), ['--vm', OTHER]).status).toBe(3)
  })
})

describe('something of the lease that is still held', () => {
  it('is 12, as "vcb unmount" says, and another call tries again', async () => {
    using world = new StandIn()
    expect(world.run(generic('pre-backup'), ['--vm', OTHER, '--run', '1']).status).toBe(0)
    world.inject('held')
    const first = world.run(generic('post-backup'), ['--vm', OTHER, '--run', '1'])
    expect(first).toMatchObject({ status: 12, stdout: '' })
    expect(first.stderr).toMatch(
      /^post-backup: db01: the lease \S+ is over, but something of it is still held; "vcb recover" releases it\n$/,
    )
    expect(world.run(generic('post-backup'), ['--vm', OTHER, '--run', '1'])).toMatchObject({ status: 0, stderr: '' })
    expect(world.states()).toEqual([])
    await world.expectNothingLeft()
  })
})

describe('a directory in which nothing is shown', () => {
  const reads = (world: StandIn, vm: string) => world.run('ls', [world.mountOf(vm)])
  const uncover = (world: StandIn, vm: string) => world.run('umount', ['-i', '-c', world.mountOf(vm)])

  it.each([OTHER, AWKWARD])('is refused to root too, before, between and after leases: %s', (vm) => {
    requireMounting()
    using world = new StandIn({ VCB_COVER: '1' })
    try {
      for (let times = 0; times < 2; times++) expect(world.run(generic('cover'), ['--vm', vm])).toMatchObject({ status: 0, stderr: '' })
      expect(reads(world, vm)).toMatchObject({ status: 2, stderr: expect.stringContaining('Permission denied') })
      expect(world.run('tar', ['-cf', '/dev/null', world.mountOf(vm)]).status).toBe(2)
      for (const run of ['1', '2']) {
        expect(world.run(generic('pre-backup'), ['--vm', vm, '--run', run])).toMatchObject({ status: 0, stderr: '' })
        expect(reads(world, vm).stdout).toBe('hostname\n')
        expect(world.run(generic('cover'), ['--vm', vm]).status).toBe(0)
        expect(reads(world, vm).status).toBe(0)
        expect(world.run(generic('post-backup'), ['--vm', vm, '--run', run])).toMatchObject({ status: 0, stderr: '' })
        expect(reads(world, vm).stderr).toContain('Permission denied')
      }
      world.inject('fail', '8')
      expect(world.run(generic('pre-backup'), ['--vm', vm]).status).toBe(8)
      expect(reads(world, vm).stderr).toContain('Permission denied')
    } finally {
      uncover(world, vm)
    }
    expect(reads(world, vm)).toMatchObject({ status: 0, stdout: '' })
  })

  it.each([
    ['restic', ['backup', '-q']],
    ['borg', ['create', '::vm']],
  ] as const)('is no success for %s, whose pre-backup was never called', (product, argv) => {
    requireMounting()
    const program = requirePeer(product)
    using world = new StandIn({ VCB_COVER: '1' })
    const repository = join(world.directory, 'repository')
    const settings = {
      RESTIC_REPOSITORY: repository,
      RESTIC_PASSWORD: 'test',
      RESTIC_CACHE_DIR: `${repository}-cache`,
      BORG_REPO: repository,
      BORG_BASE_DIR: world.directory,
    }
    const env = { ...process.env, ...settings, BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes' }
    execFileSync(program, product === 'borg' ? ['init', '-e', 'none'] : ['init', '-q'], { env })
    try {
      expect(world.run(generic('cover'), ['--vm', OTHER]).status).toBe(0)
      expect(spawnSync(program, [...argv, world.mountOf(OTHER)], { env }).status).toBeGreaterThan(0)
    } finally {
      uncover(world, OTHER)
    }
  })
})

describe('vcb-run', () => {
  const wrapped = (world: StandIn, ...command: readonly string[]) => world.run(generic('vcb-run'), ['--vm', AWKWARD, '--', ...command])

  it('runs the command with the VM shown, and gives its output and status', async () => {
    using world = new StandIn()
    const run = wrapped(world, 'sh', '-c', 'cat "$VCB_DIR/hostname"; test -n "$VCB_LEASE"; exit 3')
    expect(run).toMatchObject({ status: 3, stdout: 'the guest\n', stderr: '' })
    await world.expectNothingLeft()
    expect(world.states()).toEqual([])
  })

  it('a read error under a command that saw none', async () => {
    using world = new StandIn()
    world.inject('damaged')
    expect(wrapped(world, 'true').status).toBe(9)
    await world.expectNothingLeft()
  })

  it('the command is not run when the VM cannot be shown', async () => {
    using world = new StandIn()
    world.inject('fail', '7')
    expect(wrapped(world, 'echo', 'ran')).toMatchObject({ status: 7, stdout: '' })
    await world.expectNothingLeft()
  })

  it.each([
    ['SIGTERM', 11],
    ['SIGINT', 11],
    ['SIGKILL', null],
  ] as const)('%s: nothing is left', async (signal, status) => {
    using world = new StandIn()
    const env = { ...process.env, VCB_SCRIPTS_CONF: world.settings }
    const seen = join(world.directory, 'interrupted')
    const command = ['sh', '-c', `trap 'echo INT >"${seen}"; exit 130' INT; echo $$ >"${seen}.pid"; while :; do sleep 0.1; done`]
    const child = spawn(generic('vcb-run'), ['--vm', AWKWARD, '--', ...command], { env, stdio: 'ignore' })
    const ended = once(child, 'exit')
    for (let tries = 0; tries < 200 && !existsSync(`${seen}.pid`); tries++) await sleep(50)
    child.kill(signal)
    expect((await ended)[0]).toBe(status)
    if (signal === 'SIGKILL') process.kill(Number(readFileSync(`${seen}.pid`, 'utf8')), 'SIGKILL')
    else expect(readFileSync(seen, 'utf8')).toBe('INT\n')
    for (let tries = 0; tries < 100 && world.leases().length > 0; tries++) await sleep(50)
    await world.expectNothingLeft()
  })

  it('keeps the umask of the caller for the command', () => {
    using world = new StandIn()
    const file = join(world.directory, 'made')
    writeFileSync(join(world.directory, 'run'), `umask 022; exec "$@"`)
    const run = world.run('sh', [join(world.directory, 'run'), generic('vcb-run'), '--vm', OTHER, '--', 'touch', file])
    expect(run.status).toBe(0)
    expect(statSync(file).mode & 0o777).toBe(0o644)
  })
})
