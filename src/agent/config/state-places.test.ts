import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadConfig } from './config.ts'
import type { ConfigFlags } from './flags.ts'
import { readStatePlaces } from './state-places.ts'

let directory: string
let config: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-places-'))
  config = join(directory, 'vcb.yaml')
})
afterAll(() => rm(directory, { recursive: true, force: true }))

type Case = { readonly file: string; readonly flags?: ConfigFlags; readonly environment?: Readonly<Record<string, string>> }

test.each<Case>([
  { file: '' },
  { file: '# nothing but this\n' },
  { file: 'stateDirectory: older\n' },
  { file: 'state:\n  directory: state\nstateDirectory: older\nlog:\n  file: log/vcb.log\n  level: info\n' },
  { file: 'log:\n  file: $CREDENTIALS_DIRECTORY/log\n', environment: { CREDENTIALS_DIRECTORY: '/run/credentials/vcb' } },
  {
    file: 'state: { directory: /a }\nlog: { file: /a.log }\n',
    environment: { VCB_STATE_DIR: '/b', VCB_LOG_FILE: '/b.log', VCB_CONFIG: 'not this' },
  },
  { file: 'state: { directory: /a }\n', flags: { stateDir: '/c', logFile: '/c.log' }, environment: { VCB_STATE_DIR: '/b' } },
])('the places are those of the whole configuration: %j', async ({ file, flags = {}, environment = {} }) => {
  await writeFile(config, file)
  const { stateDirectory, logFile } = await loadConfig({ config, ...flags }, environment)
  expect(await readStatePlaces({ config, ...flags }, environment)).toEqual({ stateDirectory, logFile })
})

test.each(['state: [', 'state: 7\n', 'state:\n  directory: 7\n', 'log:\n  file: [a, b]\n', '- log\n', 'log: null\n'])(
  'a place that is none is told as every command tells it: %j',
  async (file) => {
    await writeFile(config, file)
    const why: unknown = await loadConfig({ config }, {}).catch((error: unknown) => error)
    await expect(readStatePlaces({ config }, {})).rejects.toEqual(why)
  },
)

test('what is wrong elsewhere is left to the process that reads all of it; a file that was named and is missing is not', async () => {
  await writeFile(config, 'state: { directory: /a }\nquiese: none\n')
  expect((await readStatePlaces({ config }, {})).stateDirectory).toBe('/a')
  await expect(readStatePlaces({ config: join(directory, 'none.yaml') }, {})).rejects.toThrow('does not exist')
})
