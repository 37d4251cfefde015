import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MIB, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import { providerContract, type ProviderSubject } from './provider-contract.ts'

const CHEAP = { N: 1024, r: 8, p: 1 }

async function makeRestic(sizes?: { readonly singleUpTo: number; readonly extentBytes: number }): Promise<ProviderSubject> {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-provider-'))
  return {
    open: () =>
      openResticProvider(join(directory, 'repository'), {
        clock: systemClock,
        log: silentLog,
        random: randomBytes,
        hostname: 'proxy',
        username: 'vcb',
        pid: process.pid,
        password: new Secret('correct horse'),
        init: true,
        workers: 2,
        sizes,
        kdf: CHEAP,
      }),
    // Unreferenced packs are no points; what shows is the list of snapshots.
    leftovers: async () => [],
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  }
}

providerContract('restic, one file a disk', () => makeRestic())
providerContract('restic, several extents a disk', () => makeRestic({ singleUpTo: MIB, extentBytes: 2 * MIB }))
