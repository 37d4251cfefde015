import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { requirePeer } from '../peer.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* The command ended by somebody else: what it held is released, by itself or by whoever comes next. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
const RECORDER = join(import.meta.dirname, '..', 'crash', 'effect-recorder.mjs')
let session: LabSession

beforeAll(async () => {
  session = await openLabSession()
  await session.json(['backup', 'web01', '--init', '--mode', 'full'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
afterEach(async () => {
  await session.lab.control.clearFaults()
})

const snapshotsOfOurs = async (): Promise<number> =>
  (await session.lab.control.state()).vms.flatMap((vm) => vm.snapshots).filter((snapshot) => snapshot.name.includes('vcb-proxy')).length

const locks = (): Promise<string[]> => readdir(join(session.repository, 'locks'))

async function resticSeesNoLock(): Promise<void> {
  const { stdout } = await promisify(execFile)(requirePeer('restic'), ['-r', session.repository, '--no-lock', 'list', 'locks'], {
    env: { ...process.env, RESTIC_PASSWORD: session.repositoryPassword, RESTIC_CACHE_DIR: join(session.directory, 'restic-cache') },
  })
  expect(stdout).toBe('')
}

const points = async (): Promise<number> => (await session.json(['points'])).points.length

/** A backup over a slow network, as a process of its own, stopped in the middle of its reads by `signal`. */
async function backupUntil(signal: NodeJS.Signals): Promise<{ readonly child: ChildProcess; readonly out: string; readonly err: string }> {
  await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 400 })
  const child = spawn(process.execPath, [COMMAND, 'backup', 'web01', '--mode', 'full', '--transport', 'https'], {
    env: { ...process.env, ...session.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const exited = once(child, 'exit')
  // Its snapshot is taken and it is storing: the repository is locked.
  const storing = async (): Promise<boolean> => (await snapshotsOfOurs()) > 0 && (await locks()).some((name) => !name.includes('-'))
  for (let waited = 0; !(await storing()); waited += 50) {
    if (waited > 60_000 || child.exitCode !== null) throw new Error(`the backup did not begin to store: ${err}`)
    await systemClock.sleep(50)
  }
  await systemClock.sleep(1000)
  child.kill(signal)
  await exited
  return { child, out, err }
}

describe('a backup that is', () => {
  test.each(['SIGINT', 'SIGTERM'] as const)('stopped by %s releases everything and ends with 11', async (signal) => {
    const before = await points()
    const { child, out } = await backupUntil(signal)
    expect(child.exitCode, out).toBe(11)
    expect(out).toContain(signal)
    expect(await points()).toBe(before)
    await session.expectClean()
  })

  test('killed is found by "vcb recover", which releases its snapshot and lock', async () => {
    const before = await points()
    const { child } = await backupUntil('SIGKILL')
    expect(child.signalCode).toBe('SIGKILL')
    expect(await snapshotsOfOurs()).toBe(1)
    expect(await locks()).toHaveLength(1)
    // Without the repository's password: what recovery is given may be less than what the backup had.
    const recovery = await session.vcbWith({ VCB_REPO_PASSWORD_FILE: undefined }, 'recover', '--json')
    expect(recovery).toMatchObject({ exit: 0, err: '' })
    const claims = recovery.json().recovered.flatMap((job: Json) => job.claims)
    expect(claims.map((claim: Json) => claim.kind).sort()).toEqual(['repositoryLock', 'repositoryWrite', 'snapshot', 'vmLock'])
    expect(claims.every((claim: Json) => claim.result !== 'kept')).toBe(true)
    expect(await snapshotsOfOurs()).toBe(0)
    expect(await points()).toBe(before)
    expect((await session.json(['recover'])).recovered).toEqual([])
    expect(await locks()).toEqual([])
    await session.expectClean()
    await resticSeesNoLock()
  })

  test('killed is recovered by the next backup before it starts', async () => {
    await backupUntil('SIGKILL')
    await session.lab.control.clearFaults()
    const run = await session.json(['backup', 'web01'])
    expect(run.vms[0].ok).toBe(true)
    expect((await session.json(['check'])).problems).toEqual([])
    await session.expectClean()
  })
})

type Recorded = {
  readonly n: number
  readonly phase: 'before' | 'after'
  readonly kind: string
  readonly what: string
  readonly on: string
}

type Run = { readonly child: ChildProcess; readonly effects: readonly Recorded[] }

/** A command as a process of its own, its effects recorded under a name; with `kill`, ended at one of them. */
async function recorded(name: string, argv: readonly string[], kill?: string): Promise<Run> {
  const record = join(session.directory, `${name}.effects`)
  const child = spawn(process.execPath, [COMMAND, ...argv], {
    env: {
      ...process.env,
      ...session.environment,
      NODE_OPTIONS: `--import=${RECORDER}`,
      VCB_EFFECTS_RECORD: record,
      ...(kill === undefined ? {} : { VCB_EFFECTS_KILL: kill }),
    },
    stdio: 'ignore',
  })
  await once(child, 'exit')
  const lines = (await readFile(record, 'utf8')).trim().split('\n')
  return { child, effects: lines.map((line) => JSON.parse(line)) }
}

async function restore(target: string, kill?: string): Promise<Run> {
  const [point] = (await session.json(['points'])).points
  return recorded(target, ['restore', point.id, '--to-dir', join(session.directory, target)], kill)
}

describe('a repository being made that is', () => {
  const inside = (name: string): string => join(session.directory, name)
  let files: readonly Recorded[] = []
  beforeAll(async () => {
    const whole = await recorded('init', ['init', '--repo', inside('made')])
    expect(whole.child.exitCode).toBe(0)
    files = whole.effects.filter((effect) => effect.kind === 'file' && effect.on.startsWith(inside('made')) && effect.phase === 'after')
  })
  const cuts: Readonly<Record<string, () => Recorded | undefined>> = {
    'while its key is being saved': () => files.find(({ on, what }) => on.includes('/keys/') && what === 'write'),
    'when its key is there': () => files.find(({ on, what }) => on.includes('/keys/') && what === 'rename'),
    'among its folders': () => files.filter(({ what }) => what === 'make directories').at(-1),
    'while its configuration is being saved': () => files.find(({ on, what }) => on.includes('/config') && what === 'write'),
  }

  test.each(Object.keys(cuts))('killed %s leaves nothing after "vcb recover", and can be made again', async (when) => {
    const path = inside(when)
    const { child } = await recorded(when, ['init', '--repo', path], `after:${cuts[when]?.()?.n}`)
    expect(child.signalCode).toBe('SIGKILL')
    expect(await readdir(path)).not.toEqual([])
    const recovery = await session.vcbWith({ VCB_REPO: undefined, VCB_REPO_PASSWORD_FILE: undefined }, 'recover', '--json')
    expect(recovery).toMatchObject({ exit: 0, err: '' })
    expect(recovery.json().recovered.flatMap((job: Json) => job.claims)).toMatchObject([{ kind: 'newRepository', result: 'released' }])
    expect(await readdir(path)).toEqual([])
    await session.json(['init', '--repo', path])
  })

  test('killed when it is complete stays', async () => {
    const config = files.find(({ on, what }) => on.includes('/config') && what === 'rename')
    const { child } = await recorded('complete', ['init', '--repo', inside('complete')], `after:${config?.n}`)
    expect(child.signalCode).toBe('SIGKILL')
    await session.json(['recover'])
    expect((await session.json(['check', '--repo', inside('complete')])).problems).toEqual([])
    await session.expectClean()
  })
})

describe('a restore to a directory that is', () => {
  test('killed leaves no lock in the repository after "vcb recover" without its password', async () => {
    const whole = await restore('whole')
    expect(whole.child.exitCode).toBe(0)
    await session.expectClean()
    const disk = whole.effects.filter((effect) => effect.what === 'write' && effect.on.includes('.partial/') && effect.phase === 'after')
    const middle = disk[Math.floor(disk.length / 2)]
    const { child } = await restore('killed', `after:${middle?.n}`)
    expect(child.signalCode).toBe('SIGKILL')
    expect(await locks()).toHaveLength(1)
    expect(await readdir(session.directory)).toContainEqual(expect.stringMatching(/^killed\.vcb-.*\.partial$/))
    const recovery = await session.vcbWith({ VCB_REPO_PASSWORD_FILE: undefined }, 'recover', '--json')
    expect(recovery).toMatchObject({ exit: 0, err: '' })
    const claims = recovery.json().recovered.flatMap((job: Json) => job.claims)
    expect(claims.map((claim: Json) => claim.kind).sort()).toEqual(['partialFile', 'repositoryLock'])
    expect(await locks()).toEqual([])
    await session.expectClean()
    await resticSeesNoLock()
  })

  test('killed while its lock is being saved leaves no part of it either', async () => {
    const { effects } = await restore('again')
    const saving = effects.filter((effect) => effect.on.includes('/locks/') && effect.phase === 'after')
    // The temporary file made, the lock written into it, renamed.
    expect(saving.slice(0, 3).map((effect) => effect.what)).toEqual(['create', 'write', 'rename'])
    for (const { n, what } of saving.slice(0, 3)) {
      const { child } = await restore(`killed-at-${what}`, `after:${n}`)
      expect(child.signalCode, what).toBe('SIGKILL')
      expect(await locks(), what).toHaveLength(1)
      await session.vcbWith({ VCB_REPO_PASSWORD_FILE: undefined }, 'recover')
      expect(await locks(), what).toEqual([])
    }
    await session.expectClean()
  })
})
