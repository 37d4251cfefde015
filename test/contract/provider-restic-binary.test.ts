import { execFileSync } from 'node:child_process'
import { cpSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { silentLog, systemClock } from '../../src/core/index.ts'
import { openResticBinary } from '../../src/provider/restic-binary-product.ts'
import { StreamProvider } from '../../src/provider/stream-provider.ts'
import { cheapenKey } from '../cheap-key.ts'
import { fastDirectory } from '../fast-directory.ts'
import { describePeer } from '../peer.ts'
import { providerContract } from './provider-contract.ts'

describePeer('restic', 'the stock restic', (restic) => {
  let template: Promise<string> | undefined
  const environment = (directory: string): NodeJS.ProcessEnv => ({
    PATH: process.env['PATH'],
    RESTIC_PASSWORD: 'secret',
    RESTIC_CACHE_DIR: join(directory, 'cache'),
  })
  const made = async (): Promise<string> => {
    const directory = await fastDirectory('vcb-restic-')
    execFileSync(restic, ['init', '--repo', join(directory, 'repo')], { env: environment(directory), stdio: 'ignore' })
    await cheapenKey(join(directory, 'repo'), 'secret')
    return directory
  }
  afterAll(async () => {
    if (template !== undefined) await rm(await template, { recursive: true, force: true })
  })

  providerContract(
    'restic-binary',
    async () => {
      const directory = await fastDirectory('vcb-restic-')
      cpSync(await (template ??= made()), directory, { recursive: true })
      const repository = join(directory, 'repo')
      const deps = { clock: systemClock, log: silentLog, environment: environment(directory) }
      return {
        open: async () => new StreamProvider(await openResticBinary(repository, deps)),
        leftovers: async () => {
          const listed = execFileSync(restic, ['snapshots', '--json', '--no-lock', '--repo', repository], { env: environment(directory) })
          return ((JSON.parse(listed.toString()) ?? []) as { id: string; paths: string[] }[]).map(
            ({ id, paths }) => `${id} ${paths.join()}`,
          )
        },
        [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
      }
    },
    { incremental: 'a product that takes a stream stores every point whole', 'independent points': 'there are no others' },
  )
})
