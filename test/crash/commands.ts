import { spawn } from 'node:child_process'
import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { main } from '../../src/cli/main.ts'
import { type Effect, EFFECT_BEFORE } from '../../src/core/effect.ts'
import type { Place } from './place.ts'

/** The command as it runs from the sources. */
export const FROM_SOURCES: Pick<Place, 'command'> = { command: join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs') }
const RECORDER = join(import.meta.dirname, 'effect-recorder.mjs')

/** A place to cut: just before effect `n` (from 1) starts, or when it is done and the command has not acted on it. */
export type Cut = { readonly phase: 'before' | 'after'; readonly n: number }
export const cutText = (cut: Cut): string => `${cut.phase}:${cut.n}`

/** One effect as it is named in the table: `call CreateSnapshot_Task`. */
export const effectName = (effect: Pick<Effect, 'kind' | 'what'>): string => `${effect.kind} ${effect.what}`

export type Ended = {
  /** False: the command ended by itself, because this time it had fewer effects. */
  readonly killed: boolean
  readonly exit: number | null
  readonly out: string
  readonly err: string
}

/** The built command as a process of its own, ended at a cut when one is given: by number, or the first of a name (`after:call Login`). */
export async function runChild(
  place: Pick<Place, 'command'>,
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
  options: { readonly kill?: Cut | string | undefined; readonly record?: string | undefined } = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [place.command, ...argv], {
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      ...environment,
      NODE_OPTIONS: `--import=${RECORDER}`,
      ...(options.kill === undefined ? {} : { VCB_EFFECTS_KILL: typeof options.kill === 'string' ? options.kill : cutText(options.kill) }),
      ...(options.record === undefined ? {} : { VCB_EFFECTS_RECORD: options.record }),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const [exit, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  return { killed: signal === 'SIGKILL', exit, out, err }
}

/** What a command did when nobody killed it. */
export type Recorded = {
  /** Names of its effects, in the order they started. */
  readonly effects: readonly string[]
  /**
   * Numbers of effects that started with nothing under way, right after one on this machine alone was done: what is outside just before such an effect is
   * what it was just after the one before, and one kill is both.
   */
  readonly settled: readonly number[]
}

/** Kinds of effects that are over when they are done: of a call the vCenter may have more to do. */
const LOCAL: readonly Effect['kind'][] = ['file', 'row']

/** Runs a command to its end and lists its effects. */
export async function recordEffects(
  place: Pick<Place, 'command'>,
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
  file: string,
): Promise<Recorded & { readonly ended: Ended }> {
  await rm(file, { force: true })
  const ended = await runChild(place, argv, environment, { record: file })
  const lines = (await readFile(file, 'utf8').catch(() => '')).split('\n').filter((line) => line !== '')
  const effects: string[] = []
  const settled: number[] = []
  let underWay = 0
  let quiet = false
  for (const line of lines) {
    const told = JSON.parse(line) as Effect & { readonly n: number; readonly phase: string; readonly thread?: number }
    if (told.thread !== undefined) throw new Error(`a thread of the command had an effect of its own: ${line}`)
    if (told.phase === 'before') {
      if (quiet) settled.push(told.n)
      effects.push(effectName(told))
      underWay++
      quiet = false
    } else quiet = --underWay === 0 && told.n === effects.length && LOCAL.includes(told.kind)
  }
  return { effects, settled, ended }
}

const recording = new AsyncLocalStorage<string[]>()

/** The same command inside this process, which is faster; its effects too, without those of the lab that runs here as well. */
export async function runInside(
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<{ readonly exit: number; readonly out: string; readonly err: string; readonly effects: readonly string[] }> {
  let out = ''
  let err = ''
  const effects: string[] = []
  const listen = (told: unknown): void => void recording.getStore()?.push(effectName(told as Effect))
  subscribe(EFFECT_BEFORE, listen)
  try {
    const exit = await recording.run(effects, () =>
      main(argv, {
        environment,
        out: (text) => (out += text),
        err: (text) => (err += text),
        interactive: false,
        signal: new AbortController().signal,
      }),
    )
    return { exit, out, err, effects }
  } finally {
    unsubscribe(EFFECT_BEFORE, listen)
  }
}
