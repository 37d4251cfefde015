import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { silentLog } from '../../src/core/index.ts'
import { openTarProvider } from '../../src/provider/tar-provider.ts'
import { providerContract } from './provider-contract.ts'
import { fastDirectory } from '../fast-directory.ts'

providerContract(
  'tar archives in a directory',
  async () => {
    const directory = await fastDirectory('vcb-provider-')
    return {
      open: () => openTarProvider(join(directory, 'archives'), { init: true, log: silentLog }),
      leftovers: () => readdir(join(directory, 'archives')),
      [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
    }
  },
  { 'independent points': 'an incremental archive holds only what changed, so its parent cannot be deleted' },
)
