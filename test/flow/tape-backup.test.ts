import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

let session: LabSession
beforeAll(async () => {
  session = await openLabSession()
})
afterAll(() => session[Symbol.asyncDispose]())

it('backs up, lists, checks and restores as onto a tape, and forgets nothing on it', async () => {
  const place = join(session.directory, 'tape')
  session.environment['VCB_REPO'] = `tape:${place}`
  const missing = await session.vcb('points', '--json')
  expect([missing.exit, missing.json().error.code]).toEqual([5, 'NOT_FOUND'])
  await mkdir(place)
  const { vms } = await session.json(['backup', 'web01', 'win01', '--quiesce', 'none'])
  expect(vms).toMatchObject([
    { ok: true, mode: 'full' },
    { ok: true, mode: 'full' },
  ])
  await session.expectRight('web01', vms.find(({ vm }: Json) => vm.name === 'web01').point)
  expect((await session.json(['check'])).problems).toEqual([])
  const { points } = await session.json(['points'])
  const refused = await session.vcb('forget', points[0].id, '--even-the-last', '--json')
  expect([refused.exit, refused.json().vms[0].error.code]).toEqual([12, 'CONFIG'])
  const { findings } = await session.json(['doctor'])
  expect(findings.find(({ check }: Json) => check === 'repository')).toMatchObject({
    result: 'ok',
    detail: expect.stringContaining('a directory that stands in for a tape'),
  })
  expect((await session.json(['points'])).points).toHaveLength(2)
  await session.expectClean()
})
