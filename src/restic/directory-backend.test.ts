import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { heldInMemory, inMemoryOnly } from '../../test/page-cache.ts'
import { directoryBackend } from './directory-backend.ts'
import { idHex } from './ids.ts'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-directory-backend-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

// What is in memory only is never forgotten.
test.skipIf(inMemoryOnly())('the system keeps no pack of blocks in memory, and what the next run begins with it keeps', async () => {
  await using backend = directoryBackend(join(directory, 'repository'))
  const held = async (bytes: number): Promise<number> => {
    const name = idHex(randomBytes(32))
    await backend.save({ kind: 'data', name }, Buffer.alloc(bytes, 'x'))
    return heldInMemory(join(directory, 'repository', 'data', name.slice(0, 2), name))
  }
  const MIB = 1024 * 1024
  expect(await held(4 * MIB)).toBe(0)
  expect(await held(MIB)).toBe(MIB)
})
