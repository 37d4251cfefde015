import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { systemClock } from '../../src/core/index.ts'
import { COMMAND } from './lab-process.ts'
import type { Moment } from './schedule.ts'

const PRELOAD = join(import.meta.dirname, 'moments.mjs')

/** A moment at which a running command is to be struck, or the lab with it. */
export type Strike = Moment & {
  readonly what: 'self' | 'lab'
  /** Only effects of these kinds are counted. */
  readonly kinds?: readonly string[] | undefined
  /** The lab's process, to be killed inside the effect; without it the watcher is told. */
  readonly pid?: number | undefined
}

/** At which effect a strike came. */
export type Struck = { readonly n: number; readonly phase: string; readonly kind?: string; readonly what?: string }

// Documents of --json are read by tests as they stand; each field is asserted where it is used.
// oxlint-disable-next-line typescript/no-explicit-any
type Json = any

export type Ended = {
  /** Undefined when it was killed. */
  readonly exit: number | undefined
  readonly killed: Struck | undefined
  /** It did not end within the bound and was killed by the watcher. */
  readonly hung: boolean
  readonly out: string
  readonly err: string
  /** How many effects the command had; undefined when it was killed. */
  readonly effects: number | undefined
  /** Of each strike, the names of the effects it counted, in order. */
  readonly counted: readonly (readonly string[])[]
  readonly ms: number
  readonly json: () => Json
}

/** Runs `vcb` in a process of its own, as a user does, and strikes at its moments. `onLab` is told when the lab's moment has come. */
export async function runCommand(
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
  options: { readonly strikes: readonly Strike[]; readonly boundMs: number; readonly onLab?: ((at: Struck) => void) | undefined },
): Promise<Ended> {
  const began = systemClock.monotonicMs()
  const child = spawn(process.execPath, [COMMAND, ...argv], {
    env: { ...process.env, ...environment, NODE_OPTIONS: `--import=${PRELOAD}`, VCB_MOMENTS: JSON.stringify(options.strikes) },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  let told = ''
  let killed: Struck | undefined
  let effects: number | undefined
  let counted: readonly (readonly string[])[] = []
  child.stdout?.on('data', (piece: Buffer) => (out += piece.toString()))
  child.stderr?.on('data', (piece: Buffer) => (err += piece.toString()))
  const watched = child.stdio[3] as Readable
  watched.on('data', (piece: Buffer) => {
    told += piece.toString()
    for (let end = told.indexOf('\n'); end >= 0; end = told.indexOf('\n')) {
      const line: { self?: Struck; lab?: Struck; effects?: number; counted?: readonly (readonly string[])[] } = JSON.parse(
        told.slice(0, end),
      )
      told = told.slice(end + 1)
      if (line.self !== undefined) killed = line.self
      if (line.lab !== undefined) options.onLab?.(line.lab)
      if (line.effects !== undefined) effects = line.effects
      if (line.counted !== undefined) counted = line.counted
    }
  })
  let hung = false
  const bound = setTimeout(() => {
    hung = true
    child.kill('SIGKILL')
  }, options.boundMs)
  try {
    await once(child, 'close')
  } finally {
    clearTimeout(bound)
  }
  return {
    exit: child.exitCode ?? undefined,
    killed: child.signalCode === 'SIGKILL' ? killed : undefined,
    hung,
    out,
    err,
    effects,
    counted,
    ms: Math.round(systemClock.monotonicMs() - began),
    json: () => JSON.parse(out),
  }
}
