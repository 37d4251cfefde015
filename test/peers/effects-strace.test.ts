import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { crashScenario } from '../crash/scenario.ts'
import { type LabSession, openLabSession } from '../flow/lab-session.ts'
import { describePeer } from '../peer.ts'
import { changedFile, parseTrace, type SystemCall, TRACED, writtenText } from './system-calls.ts'

/* The kernel's own account of what a command changes, against the effects it told: no change of a file may happen outside an effect on that
   file. What the seam does not see, the crash suite does not cut. */
const TOP = join(import.meta.dirname, '..', '..')
const COMMAND = join(TOP, 'scripts', 'vcb.cjs')
const RECORDER = join(TOP, 'test', 'crash', 'effect-recorder.mjs')
/** Node's compiled code, kept by the entry of the command: a cache, neither held nor missed. */
const COMPILE_CACHE = join(TOP, 'node_modules', '.cache')

type Told = {
  readonly n: number
  readonly phase: 'before' | 'after'
  readonly kind: string
  readonly what: string
  readonly on: string
  readonly thread?: number
}
/** An effect with the lines of the trace between which it was under way. */
type Effect = Omit<Told, 'phase' | 'thread'> & { readonly start: number; end: number }

let session: LabSession
let runs = 0

beforeAll(async () => {
  session = await openLabSession({ scenario: crashScenario })
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

type Traced = {
  readonly signal: NodeJS.Signals | null
  readonly exit: number | null
  readonly calls: readonly SystemCall[]
  readonly effects: readonly Effect[]
  readonly record: string
}

/** Runs `vcb` as a process of its own under strace, its effects recorded. */
async function traced(strace: string, argv: readonly string[], kill?: string): Promise<Traced> {
  const trace = join(session.directory, `trace-${++runs}`)
  const record = join(session.directory, `effects-${runs}`)
  const child = spawn(strace, ['-f', '-qq', '-y', '-s', '4096', '-e', `trace=${TRACED}`, '-o', trace, process.execPath, COMMAND, ...argv], {
    env: {
      ...process.env,
      ...session.environment,
      NODE_OPTIONS: `--import=${RECORDER}`,
      VCB_EFFECTS_RECORD: record,
      ...(kill === undefined ? {} : { VCB_EFFECTS_KILL: kill }),
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let err = ''
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const [exit, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  if (kill === undefined) expect({ exit, signal, err }).toEqual({ exit: 0, signal: null, err: '' })
  const calls = parseTrace(await readFile(trace, 'utf8'))
  await rm(trace)
  return { signal, exit, calls, effects: effectsIn(calls, record), record }
}

/** The recorder writes a line when an effect starts and one when it ended; those writes are in the trace, so its lines order both. */
function effectsIn(calls: readonly SystemCall[], record: string): readonly Effect[] {
  const effects = new Map<number, Effect>()
  for (const call of calls) {
    if (call.name !== 'write' || changedFile(call) !== record) continue
    const told = JSON.parse(writtenText(call)) as Told
    expect(told.thread, 'an effect of another thread').toBeUndefined()
    const { n, kind, what, on } = told
    if (told.phase === 'before') effects.set(n, { n, kind, what, on, start: call.end, end: Number.POSITIVE_INFINITY })
    else (effects.get(n) ?? expect.fail(`effect ${n} ended before it started`)).end = call.start
  }
  return [...effects.values()]
}

/** Whether changing `path` is what an effect says it does. */
function covers(effect: Effect, path: string): boolean {
  if (effect.kind === 'row')
    return path === effect.on || (/^-(?:wal|shm|journal)$/u.test(path.slice(effect.on.length)) && path.startsWith(effect.on))
  if (effect.kind !== 'file') return false
  if (effect.what === 'make directories') return effect.on === path || effect.on.startsWith(`${path}/`)
  if (effect.what === 'make temporary directory') return path.startsWith(effect.on)
  return effect.on === path
}

const within = (call: SystemCall, effect: Effect): boolean => effect.start < call.start && call.end < effect.end

/** Changes of files that no effect covers, as text; and the numbers. */
function compare({ calls, effects, record }: Traced) {
  const notCounted = (path: string): boolean =>
    path === record || path === session.environment['VCB_LOG_FILE'] || path.startsWith(`${COMPILE_CACHE}/`)
  const outside: string[] = []
  const covered = new Map<Effect, number>()
  let changes = 0
  for (const call of calls) {
    const path = changedFile(call)
    if (path === undefined || notCounted(path)) continue
    changes++
    // Threads write several ranges of a file at once: the call belongs to one of the effects under way on it, and no line says to which.
    const around = effects.filter((each) => covers(each, path) && within(call, each))
    if (around.length === 0) outside.push(`${call.name}(${call.args.slice(0, 200)}) on ${path}`)
    for (const effect of around) covered.set(effect, (covered.get(effect) ?? 0) + 1)
  }
  return { outside, changes, covered, effects }
}

/** Compares, prints the counts, and returns them for the numbers each command must reach. */
function everyChangeIsAnEffect(name: string, run: Traced) {
  const { outside, changes, covered, effects } = compare(run)
  expect(outside).toEqual([])
  // The other way round: what says it writes a file does. (Removing what is gone and making what is there change nothing.)
  const claimed = effects.filter(
    ({ kind, what, end }) => kind === 'file' && /^(?:write|create|truncate|rename)$/u.test(what) && Number.isFinite(end),
  )
  expect(claimed.filter((effect) => !covered.has(effect))).toEqual([])
  const kinds = Object.fromEntries(Object.entries(Object.groupBy(effects, ({ kind }) => kind)).map(([kind, list]) => [kind, list?.length]))
  console.log(
    `${name}: ${changes} system calls that change files, in ${covered.size} of ${effects.length} effects ${JSON.stringify(kinds)}`,
  )
  return { changes, kinds }
}

describePeer('strace', 'every change of a file is inside an effect on it, says the kernel, in', (strace) => {
  let full: Traced
  let incremental: Traced

  it('a full backup with a new repository', async () => {
    full = await traced(strace, ['backup', 'beta', '--init', '--mode', 'full'])
    const { changes, kinds } = everyChangeIsAnEffect('full backup', full)
    expect(changes).toBeGreaterThan(100)
    expect(kinds).toMatchObject({ call: expect.any(Number), file: expect.any(Number), row: expect.any(Number) })
  })

  it('an incremental backup', async () => {
    await session.lab.control.write('beta', { records: 5 })
    incremental = await traced(strace, ['backup', 'beta', '--mode', 'incremental'])
    expect(everyChangeIsAnEffect('incremental backup', incremental).changes).toBeGreaterThan(30)
  })

  it.each(['flat', 'split-sparse', 'streamOptimized'])('a restore to a directory, %s', async (format) => {
    const [point] = (await session.json(['points'])).points
    const target = join(session.directory, `restored-${format}`)
    const run = await traced(strace, ['restore', point.id, '--to-dir', target, '--format', format])
    expect(everyChangeIsAnEffect(`restore, ${format}`, run).changes).toBeGreaterThan(20)
  })

  it('a backup to an archive and one to a directory', async () => {
    const archive = await traced(strace, ['backup', 'beta', '--repo', `tar:${join(session.directory, 'archives')}`, '--init'])
    expect(everyChangeIsAnEffect('backup to an archive', archive).changes).toBeGreaterThan(30)
    const exported = await traced(strace, ['backup', 'beta', '--repo', `dir:${join(session.directory, 'exports')}`, '--init'])
    expect(everyChangeIsAnEffect('backup to a directory', exported).changes).toBeGreaterThan(30)
  })

  it('a backup that is killed, and "vcb recover" after it', async () => {
    const pack = incremental.effects.find(({ what, on }) => what === 'write' && on.includes('.partial/'))
    const killed = await traced(strace, ['backup', 'beta', '--mode', 'incremental'], `after:${pack?.n}`)
    expect(killed.signal).toBe('SIGKILL')
    expect(compare(killed).outside).toEqual([])
    const recovery = await traced(strace, ['recover'])
    expect(everyChangeIsAnEffect('recover', recovery).changes).toBeGreaterThan(10)
    await session.expectClean()
  })

  it('nothing less: a change past the seam is found', async () => {
    const hidden = { ...full, effects: full.effects.filter(({ what }) => what !== 'rename') }
    expect(compare(hidden).outside).toContainEqual(expect.stringContaining('rename('))
    const early = { ...full, effects: full.effects.map((effect) => ({ ...effect, end: effect.start + 1 })) }
    expect(compare(early).outside.length).toBeGreaterThan(100)
  })
})
