import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { givenOver } from './given.ts'
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

  test('a credential of a unit is found in it, and outside it that is what is said', async () => {
    await writeFile(join(directory, 'vcb_vcenter'), 'p4ss\n')
    const named = ['$CREDENTIALS_DIRECTORY/vcb_vcenter', '${CREDENTIALS_DIRECTORY}/vcb_vcenter']
    for (const path of named) {
      const inside = givenOver({}, { CREDENTIALS_DIRECTORY: directory }, '/etc/vcb').local(path)
      expect((await readSecret({ file: inside }, 'password', '--password-file')).reveal()).toBe('p4ss')
      const outside = givenOver({}, {}, '/etc/vcb').local(path)
      await expect(readSecret({ file: outside }, 'password', '--password-file')).rejects.toMatchObject({
        code: 'CONFIG',
        message: `The password is a credential of a unit of systemd (${path}), and this command does not run in it.`,
      })
    }
    expect(givenOver({}, {}, '/etc/vcb').local('$CREDENTIALS/x')).toBe('/etc/vcb/$CREDENTIALS/x')
  })
})
