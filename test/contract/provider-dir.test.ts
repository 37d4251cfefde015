import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { silentLog } from '../../src/core/index.ts'
import { openDirProvider } from '../../src/provider/dir-provider.ts'
import type { ExportFormat } from '../../src/provider/index.ts'
import { providerContract } from './provider-contract.ts'
import { fastDirectory } from '../fast-directory.ts'

const formats: readonly ExportFormat[] = ['flat', 'split-sparse', 'streamOptimized']

for (const exportFormat of formats) {
  providerContract(
    `directory export, ${exportFormat}`,
    async () => {
      const directory = await fastDirectory('vcb-provider-')
      return {
        open: () => openDirProvider(join(directory, 'exports'), { init: true, exportFormat, log: silentLog }),
        leftovers: () => readdir(join(directory, 'exports')),
        [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
      }
    },
    {
      incremental: 'a directory export is always a full image',
      'independent points': 'a directory export is always a full image',
    },
  )
}
