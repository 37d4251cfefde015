import { readdir } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { Agent } from '../../src/agent/agent.ts'
import { loadConfig, runMount } from '../../src/agent/index.ts'
import { type Clock, silentLog, systemClock } from '../../src/core/index.ts'

/*
 * The holder of a lease on VM in DIRECTORY, whole and as `vcb mount --foreground` runs it, but for its clock, which goes on by hours when it is told to: for each number of
 * seconds on its standard input it lives through them and answers with what it takes up then. Run with --expose-gc.
 */
const [vm = '', directory = ''] = process.argv.slice(2)
/** Far less than the patience of anything that may be under way. */
const STEP_MS = 10_000
/** Real time for what a step made due: a call at the vCenter takes some of it. */
const PAUSE_MS = 1

class HandedClock implements Clock {
  #offset = 0
  readonly #due = new Set<{ readonly at: number; run(): void }>()
  now = (): Date => new Date(systemClock.now().getTime() + this.#offset)
  monotonicMs = (): number => systemClock.monotonicMs() + this.#offset

  async sleep(ms: number, options?: { readonly signal?: AbortSignal | undefined }): Promise<void> {
    const over = new AbortController()
    const handed = Promise.withResolvers<void>()
    const entry = { at: this.monotonicMs() + ms, run: handed.resolve }
    this.#due.add(entry)
    const stop = (): void => over.abort(options?.signal?.reason)
    options?.signal?.addEventListener('abort', stop, { once: true })
    if (options?.signal?.aborted === true) stop()
    try {
      await Promise.race([systemClock.sleep(ms, { signal: over.signal }), handed.promise])
    } finally {
      options?.signal?.removeEventListener('abort', stop)
      this.#due.delete(entry)
      over.abort(new Error('over'))
    }
  }

  every(ms: number, run: () => void | Promise<void>, onError: (error: unknown) => void): Disposable {
    const over = new AbortController()
    const loop = async (): Promise<void> => {
      while (!over.signal.aborted) {
        await this.sleep(ms, { signal: over.signal }).catch(() => undefined) // disposed
        if (!over.signal.aborted) await Promise.resolve().then(run).catch(onError)
      }
    }
    void loop()
    return { [Symbol.dispose]: () => over.abort(new Error('disposed')) }
  }

  /** Lets so much time pass, but none when the moment `last` has come: what is done then takes its own. */
  async pass(ms: number, last: number): Promise<void> {
    for (const until = this.#offset + ms; this.#offset < until && this.monotonicMs() < last; ) {
      this.#offset += Math.min(STEP_MS, until - this.#offset)
      for (const entry of this.#due) if (entry.at <= this.monotonicMs()) entry.run()
      await pause(PAUSE_MS)
    }
  }
}

const clock = new HandedClock()
const say = (what: unknown): void => void process.stdout.write(`${JSON.stringify(what)}\n`)
const ended = new AbortController()
process.once('SIGTERM', () => ended.abort())
const agent = await Agent.open(await loadConfig({}, process.env), { clock, log: silentLog, signal: ended.signal })
const DAY_MS = 24 * 3_600_000
const deadline = clock.monotonicMs() + DAY_MS
const run = runMount(agent, {
  from: { expression: vm },
  directory,
  types: ['disk', 'file'],
  allow: {},
  exportFormat: 'flat',
  quiesce: agent.config.quiesce,
  excludeDisks: [],
  maxHoldMs: DAY_MS,
  idleMs: 2 * 3_600_000,
  waitMs: 0,
  ownerPid: undefined,
  callerPid: undefined,
  job: undefined,
  log: undefined,
  onReady: async (mounted) => say(mounted),
})
const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => void measure(Number(line)))

async function measure(seconds: number): Promise<void> {
  await clock.pass(seconds * 1000, deadline)
  globalThis.gc?.()
  await pause(1)
  globalThis.gc?.()
  const { heapUsed, external, rss } = process.memoryUsage()
  say({ heapUsed, external, rss, descriptors: (await readdir('/proc/self/fd')).length })
}

const { end, facts } = await run
lines.close()
process.stdin.destroy()
await agent[Symbol.asyncDispose]()
say({ end, facts })
