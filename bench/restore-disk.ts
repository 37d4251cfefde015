/**
 * One disk of a restore point into a flat VMDK, through the product's own rooms, as a process of its own, so that its CPU and memory can be measured.
 * `node bench/restore-disk.ts REPOSITORY PASSWORD_FILE CACHE POINT DIRECTORY` writes DIRECTORY/restored.vmdk and DIRECTORY/restored-flat.vmdk.
 */
import { exportDisk } from '../src/disk/index.ts'
import { openRepository } from './open-repository.ts'

const [repository, passwordFile, cache, point, directory] = process.argv.slice(2)
if (repository === undefined || passwordFile === undefined || cache === undefined || point === undefined || directory === undefined)
  throw new Error('Usage: node bench/restore-disk.ts REPOSITORY PASSWORD_FILE CACHE POINT DIRECTORY')
await using provider = await openRepository(repository, passwordFile, cache)
await using reader = await provider.points?.open(point)
await using disk = await reader?.disk(2000)
if (disk === undefined) throw new Error(`${repository} has no points`)
await exportDisk(disk, directory, 'restored', 'flat')
