/**
 * What the first byte of a point takes where the repository is open already, seconds: the point, its disk, a server, a connection, a page.
 * `node bench/serve-point.ts REPOSITORY PASSWORD_FILE CACHE POINT DIRECTORY FLAT`
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { silentLog, systemClock } from '../src/core/index.ts'
import { ReadAheadRoom, readingAhead } from '../src/disk/index.ts'
import { serveNbd } from '../src/nbd/index.ts'
import { firstBytes } from './first-bytes.ts'
import { openRepository } from './open-repository.ts'

const [repository, passwordFile, cache, point, directory, flat] = process.argv.slice(2)
if (
  repository === undefined ||
  passwordFile === undefined ||
  cache === undefined ||
  point === undefined ||
  directory === undefined ||
  flat === undefined
)
  throw new Error('Usage: node bench/serve-point.ts REPOSITORY PASSWORD_FILE CACHE POINT DIRECTORY FLAT')
mkdirSync(directory, { recursive: true, mode: 0o700 })
await using provider = await openRepository(repository, passwordFile, cache)
const began = performance.now()
await using reader = await provider.points?.open(point)
const disk = await reader?.disk(2000)
if (disk === undefined) throw new Error(`${repository} has no points`)
await using source = readingAhead(disk, new ReadAheadRoom(16 * 1024 * 1024))
const path = join(directory, 'nbd.sock')
await using _server = await serveNbd({ path, exports: [{ name: 'disk', source }], clock: systemClock, log: silentLog })
const served = performance.now()
const { wallSeconds } = await firstBytes({ path, name: 'disk' }, flat)
console.log((served - began) / 1000 + wallSeconds)
