import { describe, expect, it } from 'vitest'
import { FakeClock } from '../../test/lab/fake-clock.ts'
import { AgentError, isAgentError, silentLog, type VmConfig } from '../core/index.ts'
import { FreezeLimit } from './freeze-limit.ts'
import type { Quiescer } from './quiescer.ts'
import { takeConsistent } from './take-consistent.ts'
import { toolsQuiescer } from './tools-quiescer.ts'

const config = {
  vm: { name: 'web' },
  powerState: 'poweredOn',
  toolsRunning: true,
  guestId: 'debian12_64Guest',
  disks: [],
} as unknown as VmConfig
const around = (clock: FakeClock, signal?: AbortSignal) => ({ limitMs: 1000, config, clock, log: silentLog, signal })
/** Lets everything that is due run. */
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve()
}
/** A call that ends only by its signal. */
const hanging = ({ signal }: { readonly signal?: AbortSignal | undefined }): Promise<never> =>
  new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)))

/** Scripts in a guest: freeze and thaw are calls of their own. */
function scripts(log: string[], freezing: Promise<void> = Promise.resolve()): Quiescer {
  return {
    name: 'scripts',
    freezes: 'untilThawed',
    probe: () => Promise.resolve({ ok: true }),
    freeze: async (_config, { limitMs }) => {
      log.push(`armed ${limitMs}`)
      await freezing
      log.push('frozen')
      return {
        request: undefined,
        reached: () => ({ level: 'application', reason: 'scripts ran' }),
        [Symbol.asyncDispose]: async () => {
          log.push('thawed')
        },
      }
    },
  }
}

describe('the freeze watchdog', () => {
  it('aborts a call that freezes when the limit passes, and not a millisecond before', async () => {
    const clock = new FakeClock()
    const limit = new FreezeLimit(around(clock))
    const call = limit.within(hanging).catch((error: unknown) => error)
    clock.advance(999)
    await settle()
    expect(limit.exceeded).toBeUndefined()
    clock.advance(1)
    expect(await call).toBe(limit.exceeded)
    expect(isAgentError(limit.exceeded, 'GUEST')).toBe(true)
    expect(limit.exceeded?.message).toBe('The guest of web was frozen longer than 1 s; the snapshot was given up.')
    expect(limit.frozenMs).toBe(1000)
  })

  it('measures each try from its own beginning: a call that was refused did not freeze', async () => {
    const clock = new FakeClock()
    const limit = new FreezeLimit(around(clock))
    await limit.within(async () => clock.advance(700))
    clock.advance(5000)
    await limit.within(async () => clock.advance(800))
    await settle()
    expect([limit.exceeded, limit.frozenMs]).toEqual([undefined, 800])
  })

  it('passes the caller’s own cancel through', async () => {
    const cancel = new AbortController()
    const limit = new FreezeLimit(around(new FakeClock(), cancel.signal))
    const call = limit.within(hanging).catch((error: unknown) => error)
    const reason = new AgentError('CANCELED', 'SIGINT was received.')
    cancel.abort(reason)
    expect(await call).toBe(reason)
    expect(limit.exceeded).toBeUndefined()
  })

  it('thaws a guest that a quiescer holds frozen, once, and aborts what was done meanwhile', async () => {
    const clock = new FakeClock()
    const log: string[] = []
    const limit = new FreezeLimit(around(clock))
    const watched = limit.watched(scripts(log))
    {
      await using _frozen = await watched.freeze(config, { limitMs: 1000 })
      const snapshot = limit.beside(hanging).catch((error: unknown) => error)
      clock.advance(1000)
      expect(await snapshot).toBe(limit.exceeded)
      expect(log).toEqual(['armed 1000', 'frozen', 'thawed'])
    }
    expect(log).toEqual(['armed 1000', 'frozen', 'thawed'])
    expect(limit.frozenMs).toBe(1000)
  })

  it('thaws also when the limit passed while the freeze itself was under way', async () => {
    const clock = new FakeClock()
    const log: string[] = []
    const { promise, resolve } = Promise.withResolvers<void>()
    const limit = new FreezeLimit(around(clock))
    const freeze = limit.watched(scripts(log, promise)).freeze(config, { limitMs: 1000 })
    const failed = freeze.catch((error: unknown) => error)
    clock.advance(1000)
    await settle()
    expect(log).toEqual(['armed 1000'])
    resolve()
    expect(await failed).toBe(limit.exceeded)
    expect(log).toEqual(['armed 1000', 'frozen', 'thawed'])
  })

  it('asks the server for the same limit in whole minutes, at least the five it accepts', async () => {
    for (const [limitMs, minutes] of [
      [900, 5],
      [120_000, 5],
      [6.5 * 60_000, 7],
      [10 * 3_600_000, 240],
    ] as const) {
      await using frozen = await toolsQuiescer().freeze(config, { limitMs })
      expect(frozen.request).toEqual({ timeoutMinutes: minutes })
    }
  })

  it('does not freeze a guest again that was frozen too long', async () => {
    const clock = new FakeClock()
    let tries = 0
    const taking = takeConsistent(
      config,
      'try',
      async (request, within) => {
        if (request === undefined) return { quiesced: false }
        tries++
        return (within ?? (() => Promise.reject(new Error('nobody watches'))))(hanging)
      },
      { clock, log: silentLog, freezeLimitMs: 2500, pauseMs: 0 },
    )
    await settle()
    clock.advance(2500)
    expect(await taking).toMatchObject({
      level: 'crash',
      reason: 'taken without quiescing: The guest of web was frozen longer than 2.5 s; the snapshot was given up',
    })
    expect(tries).toBe(1)
  })
})
