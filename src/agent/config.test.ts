import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadConfig, readSecret } from './config.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-config-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const file = async (text: string): Promise<string> => {
  const path = join(directory, 'vcb.yaml')
  await writeFile(path, text)
  return path
}

describe('configuration', () => {
  test('flags come before the environment, the environment before the file', async () => {
    const config = await file('vcenter:\n  url: https://file\n  user: file\n  thumbprint: "11"\n')
    const loaded = await loadConfig({ config, vcenter: 'https://flag' }, { VCB_USER: 'environment', VCB_VCENTER: 'https://environment' })
    expect(loaded.vcenter).toMatchObject({ url: 'https://flag', user: 'environment', thumbprint: '11' })
  })

  test('paths in the file are relative to the file', async () => {
    const config = await file(
      'repository:\n  url: restic:repo\n  passwordFile: pw\ndatastores:\n  one: mounts/one\nstateDirectory: state\n',
    )
    const loaded = await loadConfig({ config }, {})
    expect(loaded.repository).toEqual({ url: `restic:${join(directory, 'repo')}`, password: { file: join(directory, 'pw') } })
    expect(loaded.datastores).toEqual({ one: join(directory, 'mounts/one') })
    expect(loaded.stateDirectory).toBe(join(directory, 'state'))
  })

  test('ssh is of the default order where the shell of a host is configured, and nowhere else', async () => {
    expect((await loadConfig({}, {})).transports).toEqual(['san', 'nbdssl', 'https'])
    const one = await file('ssh:\n  hosts:\n    esx1:\n      passwordFile: pw\n')
    expect((await loadConfig({ config: one }, {})).transports).toEqual(['san', 'nbdssl', 'https', 'ssh'])
    const any = await file('ssh:\n  default:\n    passwordFile: pw\n    knownHosts: hosts\n')
    expect((await loadConfig({ config: any }, {})).transports).toEqual(['san', 'nbdssl', 'https', 'ssh'])
    expect((await loadConfig({ transport: 'ssh:san' }, {})).transports).toEqual(['ssh', 'san'])
  })

  test('a datastore name may hold an equals sign', async () => {
    const loaded = await loadConfig({ datastore: ['a=b=/mnt/x'] }, {})
    expect(loaded.datastores).toEqual({ 'a=b': '/mnt/x' })
  })

  test.each([
    ['an unknown key', 'vcentre: {}\n', /vcentre/],
    ['a wrong type', 'parallel: many\n', /parallel/],
    ['an unknown transport', 'transports: san:pigeon\n', /pigeon/],
    ['a key twice', 'parallel: 1\nparallel: 2\n', /YAML/],
    ['broken YAML', 'vcenter: [\n', /YAML/],
  ])('%s in the file is CONFIG and named', async (_, text, message) => {
    await expect(loadConfig({ config: await file(text) }, {})).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(message),
    })
  })

  test('a file that was named must exist; the default one need not', async () => {
    await expect(loadConfig({ config: join(directory, 'none.yaml') }, {})).rejects.toMatchObject({ code: 'CONFIG' })
  })

  test('wrong flags are USAGE', async () => {
    await expect(loadConfig({ transport: 'pigeon' }, {})).rejects.toMatchObject({ code: 'USAGE' })
    await expect(loadConfig({ datastore: ['nothing'] }, {})).rejects.toMatchObject({ code: 'USAGE' })
    await expect(loadConfig({ parallel: '0' }, {})).rejects.toMatchObject({ code: 'USAGE' })
  })
})

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
