import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Secret, silentLog, systemClock } from '../src/core/index.ts'
import { type BackupProvider, openProvider } from '../src/provider/index.ts'

/** The repository that a measured process works on, with the index cache that an agent has in its state directory; the caller disposes it. */
export const openRepository = (repository: string, passwordFile: string, cacheDirectory: string): Promise<BackupProvider> =>
  openProvider(repository, {
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    hostname: 'bench',
    username: 'bench',
    pid: process.pid,
    startThreads: true,
    cacheDirectory,
    password: new Secret(readFileSync(passwordFile, 'utf8').trim()),
  })
