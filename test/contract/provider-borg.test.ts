import { execFileSync } from 'node:child_process'
import { cpSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { silentLog, systemClock } from '../../src/core/index.ts'
import { openBorg } from '../../src/provider/borg-product.ts'
import { StreamProvider } from '../../src/provider/stream-provider.ts'
import { fastDirectory } from '../fast-directory.ts'
import { describePeer } from '../peer.ts'
import { providerContract } from './provider-contract.ts'

describePeer('borg', 'the stock borg', (borg) => {
  let template: Promise<string> | undefined
  const environment = (directory: string): NodeJS.ProcessEnv => ({
    PATH: process.env['PATH'],
    BORG_BASE_DIR: directory,
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
    BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes',
  })
  const made = async (): Promise<string> => {
    const directory = await fastDirectory('vcb-borg-')
    execFileSync(borg, ['init', '--encryption=none', join(directory, 'repo')], { env: environment(directory), stdio: 'ignore' })
    return directory
  }
  afterAll(async () => {
    if (template !== undefined) await rm(await template, { recursive: true, force: true })
  })

  providerContract(
    'borg',
    async () => {
      const directory = await fastDirectory('vcb-borg-')
      cpSync(await (template ??= made()), directory, { recursive: true })
      const repository = join(directory, 'repo')
      const open = async () =>
        new StreamProvider(await openBorg(repository, { clock: systemClock, log: silentLog, environment: environment(directory) }))
      return {
        open,
        leftovers: async () =>
          execFileSync(borg, ['list', '--short', '--consider-checkpoints', repository], { env: environment(directory), encoding: 'utf8' })
            .split('\n')
            .filter((name) => name !== ''),
        [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
      }
    },
    { incremental: 'a product that takes a stream stores every point whole', 'independent points': 'there are no others' },
  )
})
