import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { heldInMemory, inMemoryOnly } from '../../test/page-cache.ts'
import { openOutput } from './files.ts'

const SIZE = 8 * 1024 * 1024

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-page-cache-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

// What is in memory only is never forgotten.
test.skipIf(inMemoryOnly())('what was written and synced is forgotten, and there when it is read', async () => {
  const path = join(directory, 'pack')
  const data = Buffer.alloc(SIZE, 'pack')
  await using output = await openOutput(path, 'wx+')
  await output.write(data)
  await output.sync()
  expect(heldInMemory(path)).toBe(SIZE)
  output.forget()
  expect(heldInMemory(path)).toBe(0)
  expect(readFileSync(path).equals(data)).toBe(true)
})
