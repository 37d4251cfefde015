import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FakeClock } from '../../test/lab/fake-clock.ts'
import { HOLDER_LOG, openHolderLog } from './holder-log.ts'
import { openLog } from './log.ts'

let state: string
beforeEach(async () => {
  state = await mkdtemp(join(tmpdir(), 'vcb-holder-'))
})
afterEach(() => rm(state, { recursive: true, force: true }))

test('the log of a holder is private, and a hundred are kept', async () => {
  const clock = new FakeClock()
  const paths: string[] = []
  for (let begun = 0; begun < 103; begun++) {
    await using log = await openHolderLog(state, undefined, { clock })
    paths.push(log.path)
    clock.advance(1000)
  }
  expect((await readdir(join(state, 'holders'))).toSorted().map((name) => join(state, 'holders', name))).toEqual(paths.slice(3))
  expect((await stat(paths[102] ?? '')).mode & 0o777).toBe(0o600)
})

test('a log that is configured is used instead', async () => {
  await using log = await openHolderLog(state, join(state, 'vcb.log'), { clock: new FakeClock() })
  expect(log.path).toBe(join(state, 'vcb.log'))
  expect(await readdir(state)).toEqual(['vcb.log'])
})

test('it never grows beyond two files of its size', async () => {
  const { path, file } = await openHolderLog(state, undefined, { clock: new FakeClock() })
  await file.close()
  {
    await using log = await openLog({ level: 'info', file: path, bounded: HOLDER_LOG })
    for (let line = 0; line < 3000; line++) log.info(`${line} ${'x'.repeat(1000)}`)
  }
  const names = await readdir(join(state, 'holders'))
  expect(names).toHaveLength(2)
  for (const name of names) {
    const { size, mode } = await stat(join(state, 'holders', name))
    expect([size < HOLDER_LOG.maxBytes + 4096, mode & 0o777]).toEqual([true, 0o600])
  }
  expect(await readFile(path, 'utf8')).toContain('"2999 xxx')
})
