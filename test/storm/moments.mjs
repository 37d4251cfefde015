/* Loaded before a command (`NODE_OPTIONS=--import=<this file>`), to end it, or the lab it works with, at one of its effects. The command knows
   nothing of it: it tells its effects on Node's diagnostics channels (src/core/effect.ts), and this file listens.

   VCB_MOMENTS   JSON: a list of { at, phase, delayMs, what, kinds?, pid? }
     at, phase   the at-th effect (from 1), before it starts or after it is done; at 0 counts from the start of the process
     kinds       only effects of these kinds are counted; all when absent
     delayMs     so much later; 0 = inside the effect, before anything else of the command runs
     what        self: SIGKILL to this process · lab: SIGKILL to `pid`, or, without one, a line to the watcher, who knows the lab's process

   The watcher reads JSON lines from file descriptor 3: { lab } and { self } when a moment came, each with the effect, { effects, counted }
   at the end: their number, and of each moment the names of those it counted. */
import { subscribe } from 'node:diagnostics_channel'
import { readFileSync, writeSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'

const moments = JSON.parse(process.env['VCB_MOMENTS'] ?? '[]')
delete process.env['VCB_MOMENTS']
const WATCHER = 3

/** True until the process is gone or a zombie: then nothing of it answers any more. */
const runs = (pid) => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return !'ZX'.includes(stat.slice(stat.lastIndexOf(')') + 2)[0] ?? '')
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return false
    throw error
  }
}

if (isMainThread) {
  const tell = (line) => writeSync(WATCHER, `${JSON.stringify(line)}\n`)
  const strike = (moment, effect, n) => {
    tell({ [moment.what]: { n, phase: moment.phase, kind: effect?.kind, what: effect?.what } })
    if (moment.what === 'self') process.kill(process.pid, 'SIGKILL')
    if (moment.pid === undefined) return
    process.kill(moment.pid, 'SIGKILL')
    while (runs(moment.pid)) continue
  }
  const arm = (moment, effect, n) => {
    if (moment.delayMs === 0) strike(moment, effect, n)
    else setTimeout(() => strike(moment, effect, n), moment.delayMs).unref()
  }
  const numbers = new WeakMap()
  const counted = moments.map(() => [])
  let last = 0
  const on = (phase) => (effect) => {
    if (phase === 'before') numbers.set(effect, ++last)
    moments.forEach((moment, index) => {
      if (moment.at === 0 || moment.phase !== phase) return
      if (moment.kinds !== undefined && !moment.kinds.includes(effect.kind)) return
      counted[index].push(effect.what)
      if (counted[index].length === moment.at) arm(moment, effect, numbers.get(effect))
    })
  }
  subscribe('vcb.effect.before', on('before'))
  subscribe('vcb.effect.after', on('after'))
  for (const moment of moments) if (moment.at === 0) arm(moment, undefined, 0)
  process.on('exit', () => {
    tell({ effects: last, counted })
  })
}
