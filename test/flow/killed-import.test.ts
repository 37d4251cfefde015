import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Json, LabSession } from './lab-session.ts'
import { openLabSession } from './lab-session.ts'
import { runCommand } from '../storm/command.ts'

/* A restore whose process dies while vSphere holds its VM for it: nobody will complete the import lease any more. */
let session: LabSession

beforeAll(async () => {
  session = await openLabSession()
  await session.json(['backup', 'web01', '--init', '--mode', 'full'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

const leases = async (): Promise<readonly string[]> =>
  (await session.lab.control.state()).leases.filter(({ state }) => state === 'ready').map(({ vm }) => vm)

describe('a restore through an import lease that is killed', () => {
  test.each(['before', 'after'] as const)('%s a piece of its upload: its lease is ended and its VM removed', async (phase) => {
    const strikes = [{ at: 1, phase, delayMs: 0, what: 'self', kinds: ['upload'] }] as const
    const ended = await runCommand(['restore', 'web01@latest', '--to-vcenter', '--name', 'copy'], session.environment, {
      strikes,
      boundMs: 60_000,
    })
    expect(ended.killed?.kind, ended.err).toBe('upload')
    expect(await leases()).toEqual(['copy'])
    const report = await session.json(['recover'])
    const claims: readonly Json[] = report.recovered.flatMap((job: Json) => job.claims)
    expect(claims.filter(({ kind }) => kind === 'registeredVm').map(({ result }) => result)).toEqual(['released'])
    expect(await leases()).toEqual([])
    expect((await session.lab.control.state()).vms.map(({ name }) => name)).not.toContain('copy')
    await session.expectClean()
  })
})
