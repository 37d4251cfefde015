import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openOutput } from './files.ts'

const TMPFS = 0x01021994
const SIZE = 8 * 1024 * 1024

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-page-cache-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

/** What the kernel holds of a file in memory, bytes, as util-linux tells. */
const held = (path: string): number =>
  Number(execFileSync('fincore', ['--bytes', '--noheadings', '--output', 'RES', path], { encoding: 'utf8' }))

// What is in memory only is never forgotten.
test.skipIf(statfsSync(tmpdir()).type === TMPFS)('what was written and synced is forgotten, and there when it is read', async () => {
  const path = join(directory, 'pack')
  const data = Buffer.alloc(SIZE, 'pack')
  await using output = await openOutput(path, 'wx+')
  await output.write(data)
  await output.sync()
  expect(held(path)).toBe(SIZE)
  output.forget()
  expect(held(path)).toBe(0)
  expect(readFileSync(path).equals(data)).toBe(true)
})

test('what is not on the disk yet is kept', async () => {
  const path = join(directory, 'written')
  const data = Buffer.alloc(SIZE, 'disk')
  await using output = await openOutput(path, 'wx+')
  await output.write(data)
  output.forget()
  expect(readFileSync(path).equals(data)).toBe(true)
})
