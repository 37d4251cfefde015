import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCommand, type Ended, type Strike } from '../storm/command.ts'
import { type LabSession, openLabSession } from './lab-session.ts'

/* A restore that takes the place of a VM, killed while the two change places: there is one VM of the name afterwards, whole. */
let session: LabSession
let calls = 0

beforeAll(async () => {
  session = await openLabSession()
  await session.json(['backup', 'web01', '--init', '--mode', 'full'])
  await session.json(['restore', 'web01@latest', '--to-vcenter', '--name', 'copy'])
  calls = (await replace([{ at: 1000, phase: 'before', delayMs: 0, what: 'self', kinds: ['call'] }])).counted[0]?.length ?? 0
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

const replace = (strikes: readonly Strike[]): Promise<Ended> =>
  runCommand(['restore', 'web01@latest', '--to-vcenter', '--name', 'copy', '--overwrite', '--json'], session.environment, {
    strikes,
    boundMs: 90_000,
  })

const copies = async (): Promise<readonly { name: string; moref: string }[]> =>
  (await session.lab.control.state()).vms.filter(({ name }) => name.startsWith('copy')).map(({ name, moref }) => ({ name, moref }))

describe('a restore over a VM', () => {
  test('leaves the restored one alone', async () => {
    const [before] = await copies()
    const ended = await replace([])
    expect(ended.exit, ended.out).toBe(0)
    const [after, ...more] = await copies()
    expect(more).toEqual([])
    expect(after?.name).toBe('copy')
    expect(after?.moref).not.toBe(before?.moref)
    await session.expectClean()
  })

  // The last call is the logout; before it the old VM goes, the new one is renamed, the old one is moved aside, the new one's settings are made.
  test.each([
    [4, 'after', 'old'],
    [3, 'after', 'new'],
    [2, 'before', 'new'],
    [1, 'before', 'new'],
  ] as const)('killed %d calls before the logout, %s it, leaves one VM: the %s', async (back, phase, which) => {
    const [before] = await copies()
    const ended = await replace([{ at: calls - back, phase, delayMs: 0, what: 'self', kinds: ['call'] }])
    expect(ended.killed, `${ended.out}${ended.err}`).toBeDefined()
    await session.json(['recover'])
    const [after, ...more] = await copies()
    expect(more, ended.killed?.what).toEqual([])
    expect(after?.name).toBe('copy')
    expect(after?.moref === before?.moref ? 'old' : 'new', ended.killed?.what).toBe(which)
    const [disk] = await session.lab.control.sha256('copy')
    const [recorded] = await session.lab.control.digestsAtSnapshot('web01').then((digests) => digests.at(-1)?.disks ?? [])
    if (recorded !== undefined) expect(disk?.sha256).toBe(recorded.sha256)
    await session.expectClean()
  })
})
