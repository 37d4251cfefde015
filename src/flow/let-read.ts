import { join } from 'node:path'
import { type FileReader, readableMode, setOwner, setPermissions } from '../core/index.ts'
import type { MountDirectory } from '../journal/index.ts'
import type { ExportedVm } from './export-vm.ts'
import { ownDirectory } from './mount-directory.ts'
import { nbdSocket } from './show-disks.ts'

/**
 * Opens what a lease shows to one reader, when all of it is there. Directories stay root's, whom alone they let change what is in them; one that was there before keeps
 * its permissions. Raw files are opened where they are served. Only root can: CONFIG, or EPERM.
 */
export async function letRead(
  reader: FileReader,
  { path, made }: Pick<MountDirectory, 'path' | 'made'>,
  served: boolean,
  exported: ExportedVm | undefined,
): Promise<void> {
  const give = async (file: string, permissions: number): Promise<void> => {
    await setOwner(file, reader.user ?? 0, reader.group)
    await setPermissions(file, permissions)
  }
  const open = async (directory: string): Promise<void> => {
    await setOwner(directory, 0, reader.group)
    await setPermissions(directory, 0o750)
  }
  for (const { name } of exported?.files ?? []) await give(join(path, name), readableMode(reader))
  await give(join(ownDirectory(path), 'manifest.json'), readableMode(reader))
  if (served) await give(nbdSocket(path), readableMode(reader, { write: true }))
  await open(ownDirectory(path))
  if (made) await open(path)
}
