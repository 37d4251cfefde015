import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readSecret } from './secret-source.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-config-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

describe('secrets', () => {
  test('come from a file without its line end, and never print', async () => {
    const path = join(directory, 'pw')
    await writeFile(path, 'p4ss word\r\nsecond line\n')
    const secret = await readSecret({ file: path }, 'password', '--password-file')
    expect(secret.reveal()).toBe('p4ss word')
    expect(`${String(secret)} ${JSON.stringify({ secret })}`).toBe('*** {"secret":"***"}')
  })

  test('an empty file, a missing file and no source at all are told apart', async () => {
    const path = join(directory, 'empty')
    await writeFile(path, '\n')
    await expect(readSecret({ file: path }, 'password', '--password-file')).rejects.toMatchObject({ code: 'CONFIG' })
    await expect(readSecret({ file: join(directory, 'none') }, 'password', '--password-file')).rejects.toMatchObject({ code: 'CONFIG' })
    await expect(readSecret({}, 'password', '--password-file')).rejects.toMatchObject({ code: 'USAGE' })
  })
})
