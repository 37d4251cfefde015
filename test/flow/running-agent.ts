import { expect } from 'vitest'
import { main } from '../../src/cli/main.ts'
import { systemClock } from '../../src/core/index.ts'
import type { CommandResult, LabSession } from './lab-session.ts'

export type RunningAgent = {
  /** The first signal; resolves when it has ended. */
  readonly end: () => Promise<CommandResult>
  readonly notes: () => string
}

/** A `vcb agent` in this process, when it says that it runs. */
export async function startAgent(session: Pick<LabSession, 'environment'>, ...argv: readonly string[]): Promise<RunningAgent> {
  const stop = new AbortController()
  const giveUp = new AbortController()
  let out = ''
  let err = ''
  const exited = main(['agent', ...argv], {
    environment: { ...session.environment },
    out: (text) => {
      out += text
    },
    err: (text) => {
      err += text
    },
    interactive: false,
    signal: stop.signal,
    giveUp: giveUp.signal,
  })
  const status = await Promise.race([exited, untilTrue(() => err.includes('The agent runs'))])
  expect(status, out + err).toBe(true)
  return {
    notes: () => err,
    end: async () => {
      stop.abort(new Error('a signal'))
      return { exit: await exited, out, err, json: () => JSON.parse(out) }
    },
  }
}

export async function untilTrue(condition: () => boolean | Promise<boolean>): Promise<true> {
  for (let turn = 0; turn < 1200; turn++) {
    if (await condition()) return true
    await systemClock.sleep(100)
  }
  throw new Error('it never became true')
}
