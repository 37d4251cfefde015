import { randomBytes } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Secret, silentLog, systemClock } from '../src/core/index.ts'
import { directoryBackend } from '../src/restic/index.ts'
import { sealKeyFile } from '../src/restic/key-file.ts'
import { openKeyFile } from '../src/restic/open-key.ts'

/** A key that costs a millisecond instead of half a second of a core, each time a repository is opened. */
export const CHEAP_KDF = { N: 1024, r: 8, p: 1 }

/**
 * Seals the master key of a restic repository in a directory anew, as `restic key passwd` does, with the same password and next to no cost,
 * and takes the dear key files away; nobody may have the repository open meanwhile. For tests to which the repository is a means; what is stored in it stays as it is.
 */
export async function cheapenKey(repository: string, password: string): Promise<void> {
  const names = await readdir(join(repository, 'keys'))
  const dear: string[] = []
  for (const name of names) if (!(await readFile(join(repository, 'keys', name), 'utf8')).includes(`"N":${CHEAP_KDF.N},`)) dear.push(name)
  if (dear.length === 0) return
  const backend = directoryBackend(repository)
  const deps = { clock: systemClock, log: silentLog, hostname: 'test', username: 'test', pid: process.pid, random: randomBytes }
  const { master } = await openKeyFile(backend, new Secret(password), deps)
  const { name, bytes } = await sealKeyFile(master, new Secret(password), deps, CHEAP_KDF)
  await backend.save({ kind: 'key', name }, bytes)
  for (const each of dear) await rm(join(repository, 'keys', each), { force: true })
}
