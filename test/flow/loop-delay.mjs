/*
 * Preloaded into a vcb process (`node --import`): how long its event loop kept others waiting, written to LOOP_DELAY_FILE when it ends. Told apart are the delay
 * as it is, and without the time the thread waited for a processor that others had: that part says how busy the machine is, not how the program behaves.
 */
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs'
import { createHistogram } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const file = process.env['LOOP_DELAY_FILE']
delete process.env['LOOP_DELAY_FILE']
const EVERY_MS = 5

if (isMainThread && file !== undefined) {
  // The kernel's account of this thread: ns on a processor, ns ready but without one.
  const account = openSync(`/proc/${process.pid}/task/${process.pid}/schedstat`, 'r')
  const line = Buffer.alloc(64)
  const waitedMs = () => Number(line.toString('latin1', 0, readSync(account, line, 0, line.length, 0)).split(' ')[1]) / 1e6
  const all = createHistogram()
  const own = createHistogram()
  let last = { at: 0, waited: 0 }
  const look = () => {
    const [at, waited] = [performance.now(), waitedMs()]
    const late = Math.max(0, at - last.at - EVERY_MS)
    const micros = (ms) => Math.max(1, Math.round(ms * 1000))
    all.record(micros(late))
    own.record(micros(late - (waited - last.waited)))
    next()
  }
  const next = () => {
    last = { at: performance.now(), waited: waitedMs() }
    setTimeout(look, EVERY_MS).unref()
  }
  // Loading the program is no work among others that wait.
  setTimeout(next, 2000).unref()
  process.on('exit', () => {
    closeSync(account)
    const facts = (histogram) => ({ p50: histogram.percentile(50) / 1000, p99: histogram.percentile(99) / 1000, max: histogram.max / 1000 })
    writeFileSync(file, JSON.stringify({ looks: own.count, all: facts(all), own: facts(own) }))
  })
}
