import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DEFAULT_TRANSPORTS } from '../core/index.ts'
import { loadConfig } from './config.ts'
import { readSecret } from './secret-source.ts'

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

  test('a datastore name may hold an equals sign', async () => {
    const loaded = await loadConfig({ datastore: ['a=b=/mnt/x'] }, {})
    expect(loaded.datastores).toEqual({ 'a=b': '/mnt/x' })
  })

  test('the order of transports is a list or text, and has a default', async () => {
    expect((await loadConfig({ config: await file('') }, {})).transports).toEqual(DEFAULT_TRANSPORTS)
    expect((await loadConfig({ config: await file('transports: san:https\n') }, {})).transports).toEqual(['san', 'https'])
    expect((await loadConfig({ config: await file('transports: [lease, nbd, lease]\n') }, {})).transports).toEqual(['lease', 'nbd'])
    expect((await loadConfig({ config: await file(''), transport: 'https,san' }, { VCB_TRANSPORT: 'nbd' })).transports).toEqual([
      'https',
      'san',
    ])
  })

  test('limits are read, and have defaults where they have to', async () => {
    const { limits } = await loadConfig({ config: await file('') }, {})
    expect(limits).toEqual({ nfc: {}, disksPerVm: 1, bandwidth: [] })
    const text = 'limits:\n  nfcMemoryPerHost: 8MiB\n  snapshotsPerDatastore: 2\n  latency: 20ms\n  bandwidth: 1MiB/s\n'
    expect((await loadConfig({ config: await file(text), bandwidth: '2MiB/s' }, {})).limits).toMatchObject({
      nfc: { memoryPerHost: 8 * 2 ** 20 },
      snapshotsPerDatastore: 2,
      latencyMs: 20,
      bandwidth: [{ bytesPerSecond: 2 * 2 ** 20 }],
    })
  })

  test.each([
    ['a limit of nothing', 'limits:\n  streamsPerDatastore: 0\n', /streamsPerDatastore/],
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
