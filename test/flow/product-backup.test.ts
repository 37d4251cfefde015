import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { cheapenKey } from '../cheap-key.ts'
import { type PeerName, peer, requirePeer } from '../peer.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* Whole backups into the repositories of Borg and restic, through their own programs, and back. */
let session: LabSession
beforeAll(async () => {
  session = await openLabSession()
  vi.stubEnv('BORG_BASE_DIR', join(session.directory, 'borg-home'))
  vi.stubEnv('RESTIC_CACHE_DIR', join(session.directory, 'restic-cache'))
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await session[Symbol.asyncDispose]()
})

const PRODUCTS = [
  ['borg', 'borg', ['init', '--encryption=repokey']],
  ['restic-binary', 'restic', ['init', '--quiet']],
] as const satisfies readonly (readonly [string, PeerName, readonly string[]])[]

describe.each(PRODUCTS)('%s:', (scheme, name, init) => {
  it(`backs up, lists, checks, restores and forgets through ${name}`, async () => {
    const program = peer(name) ?? requirePeer(name)
    const place = join(session.directory, scheme)
    session.environment['VCB_REPO'] = `${scheme}:${place}`
    const missing = await session.vcb('points', '--json')
    expect([missing.exit, missing.json().error.code]).toEqual([5, 'NOT_FOUND'])
    const password = {
      BORG_REPO: place,
      BORG_PASSPHRASE: session.repositoryPassword,
      RESTIC_REPOSITORY: place,
      RESTIC_PASSWORD: session.repositoryPassword,
    }
    execFileSync(program, init, { env: { ...process.env, ...password }, stdio: 'ignore' })
    if (scheme === 'restic-binary') await cheapenKey(place, session.repositoryPassword)

    const { vms } = await session.json(['backup', 'web01', 'win01', '--quiesce', 'none'])
    expect(vms).toMatchObject([
      { ok: true, mode: 'full' },
      { ok: true, mode: 'full' },
    ])
    const { points } = await session.json(['points'])
    expect(points.map(({ vmName }: Json) => vmName).toSorted()).toEqual(['web01', 'win01'])
    await session.expectRight('web01', vms.find(({ vm }: Json) => vm.name === 'web01').point)
    expect((await session.json(['check'])).problems).toEqual([])
    const { findings } = await session.json(['doctor'])
    expect(findings.find(({ check }: Json) => check === 'repository')).toMatchObject({
      result: 'ok',
      detail: expect.stringMatching(new RegExp(`opens \\(${name} \\d.*\\), 2 restore points`, 'u')),
    })

    const mounted = await session.vcb('mount', `point:${points[0].id}`, join(session.directory, 'mnt'), '--foreground')
    expect({ exit: mounted.exit, said: mounted.out + mounted.err }).toEqual({ exit: 2, said: expect.stringContaining('cannot be mounted') })

    await session.json(['forget', points[0].id, '--even-the-last'])
    expect((await session.json(['points'])).points.map(({ id }: Json) => id)).toEqual([points[1].id])
    await session.expectClean()
  })
})
