/* Loaded before a command (`NODE_OPTIONS=--import=<this file>`), to count what it does outside its process or to end it there. The command
   itself knows nothing of it: it tells its effects on Node's diagnostics channels (src/core/effect.ts), and this file listens.

   VCB_EFFECTS_RECORD=<file>      appends one JSON line per effect and phase: { n, phase, kind, what, on }, written before the effect goes on
   VCB_EFFECTS_KILL=before:<n>    SIGKILL to its own process just before effect n (from 1) starts
   VCB_EFFECTS_KILL=after:<n>     … when effect n is done outside and the command has not acted on it yet
   VCB_EFFECTS_KILL=after:<name>  … at the first effect of a name, `call CreateSnapshotEx_Task`; `before:` too

   Both may be given. Effects are numbered in the order they start. A line of another thread has `thread`, and a number of its own row; none
   is expected. The variables are taken out of the environment, so that programs the command starts do not count as well. */
import { subscribe } from 'node:diagnostics_channel'
import { openSync, writeSync } from 'node:fs'
import { getEnvironmentData, isMainThread, setEnvironmentData, threadId } from 'node:worker_threads'

const KEY = 'vcb.effects.record'
const record = isMainThread ? process.env['VCB_EFFECTS_RECORD'] : getEnvironmentData(KEY)
const kill = isMainThread ? process.env['VCB_EFFECTS_KILL'] : undefined
delete process.env['VCB_EFFECTS_RECORD']
delete process.env['VCB_EFFECTS_KILL']

if (record !== undefined || kill !== undefined) {
  if (isMainThread && record !== undefined) setEnvironmentData(KEY, record)
  const [, killPhase, killAt] = /^(before|after):(.+)$/.exec(kill ?? '') ?? []
  if (kill !== undefined && killAt === undefined) throw new Error(`VCB_EFFECTS_KILL is not before:… or after:…: ${kill}`)
  const output = record === undefined ? undefined : openSync(record, 'a', 0o600)
  const numbers = new WeakMap()
  let last = 0

  const tell = (phase, effect) => {
    const n = numbers.get(effect)
    if (output !== undefined) {
      const { kind, what, on } = effect
      writeSync(output, `${JSON.stringify({ n, phase, kind, what, on, ...(isMainThread ? {} : { thread: threadId }) })}\n`)
    }
    // The signal is delivered before the system call returns: nothing of the command runs any more.
    if (phase === killPhase && (String(n) === killAt || `${effect.kind} ${effect.what}` === killAt)) process.kill(process.pid, 'SIGKILL')
  }
  subscribe('vcb.effect.before', (effect) => {
    numbers.set(effect, ++last)
    tell('before', effect)
  })
  subscribe('vcb.effect.after', (effect) => tell('after', effect))
}
