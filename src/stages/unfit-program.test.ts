import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { unfitProgram } from './unfit-program.ts'

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-unfit-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

async function file(name: string, mode: number, text = '#!/bin/sh\n'): Promise<string> {
  const path = join(directory, name)
  await writeFile(path, text)
  await chmod(path, mode)
  return path
}

test('a program of ours, a system’s, and a link to one are fit', async () => {
  const own = await file('own', 0o750)
  await symlink(own, join(directory, 'link'))
  for (const path of [own, '/bin/sh', join(directory, 'link')]) expect(await unfitProgram(path)).toBeUndefined()
})

test('what is missing, no file, empty, not executable, or anybody’s to change is not', async () => {
  expect(await unfitProgram(join(directory, 'none'))).toMatch(/does not exist$/)
  expect(await unfitProgram(directory)).toMatch(/is not a file$/)
  expect(await unfitProgram(await file('empty', 0o755, ''))).toMatch(/is empty$/)
  expect(await unfitProgram(await file('plain', 0o644))).toMatch(/cannot be executed by the user vcb runs as$/)
  expect(await unfitProgram(await file('open', 0o757))).toMatch(/can be changed by everybody \(mode 757\); chmod o-w it$/)
})
