import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadConfig } from './config.ts'

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
