import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { type Abortable, fromErrno } from '../core/index.ts'
import { localDiskFiles, openChain } from '../disk/index.ts'
import type { MountSource } from './mount-source.ts'
import type { VmdkToMount } from './mount-types.ts'

/**
 * One virtual disk that lies here as a file, whatever its format, with its parents. No digest proves it and no lock keeps it: who mounts it leaves it alone meanwhile. Errors: NOT_FOUND,
 * INTEGRITY, CONFIG, those of the formats.
 */
export async function openVmdk({ path, vm }: VmdkToMount, options: Abortable): Promise<MountSource> {
  const written = await modifiedAt(path)
  await using opened = new AsyncDisposableStack()
  const source = opened.use(await openChain(path, localDiskFiles(), options))
  const held = opened.move()
  const disk = { key: 0, label: basename(path), capacityBytes: source.size, fileName: path, chain: [], thin: false, source }
  return {
    vm,
    point: undefined,
    config: undefined,
    time: written.toISOString(),
    level: 'crash',
    reason: 'it is a disk file, which does not say how it was made',
    notProtected: [],
    scripts: undefined,
    disks: [disk],
    snapshot: undefined,
    broken: undefined,
    files: async () => [],
    finish: async () => undefined,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

async function modifiedAt(path: string): Promise<Date> {
  try {
    return (await stat(path)).mtime
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}
