import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Agent } from '../../src/agent/agent.ts'
import { loadConfig, runBackup } from '../../src/agent/index.ts'
import { type Effect, EFFECT_BEFORE, silentLog, systemClock } from '../../src/core/index.ts'
import { type LabSession, openLabSession } from './lab-session.ts'

/* Two runs of one agent at the same time. */
let session: LabSession
beforeAll(async () => {
  session = await openLabSession()
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

it('each marks what it half writes with its own id, so that the end of one takes nothing of the other', async () => {
  const places: string[] = []
  const listen = (message: unknown): void => {
    const { kind, on } = message as Effect
    if (kind === 'file' && on.startsWith(`${session.repository}/`)) places.push(on)
  }
  await using agent = await Agent.open(await loadConfig({}, session.environment), {
    clock: systemClock,
    log: silentLog,
    signal: new AbortController().signal,
  })
  subscribe(EFFECT_BEFORE, listen)
  try {
    const wish = { bulk: false, mode: 'full', quiesce: 'none', excludeDisks: [], init: false } as const
    const runs = await Promise.all(['db01', 'win01'].map((vm) => runBackup(agent, { ...wish, expressions: [vm] })))
    expect(runs.map(({ vms }) => vms.map(({ ok }) => ok))).toEqual([[true], [true]])
    for (const { run } of runs) expect(places.some((place) => place.includes(run))).toBe(true)
  } finally {
    unsubscribe(EFFECT_BEFORE, listen)
  }
  await session.expectClean()
})
