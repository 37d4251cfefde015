import { copyFile, mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buildCommand } from '../../scripts/build.ts'

const TOP = join(import.meta.dirname, '..', '..')

/**
 * The command as `npm run build` makes it, in a directory of its own as an installation has it; gives its entry. A start of it costs half of
 * one from the sources, and half of a cut is starting the command. It has a compile cache of its own, which goes with the directory.
 */
export async function installCommand(directory: string): Promise<string> {
  await buildCommand(join(directory, 'dist'))
  await writeFile(join(directory, 'package.json'), '{ "type": "module" }\n')
  await mkdir(join(directory, 'scripts'))
  for (const name of ['vcb.cjs', 'start.cjs', 'heap.cjs']) await copyFile(join(TOP, 'scripts', name), join(directory, 'scripts', name))
  await mkdir(join(directory, 'node_modules'))
  for (const name of await readdir(join(TOP, 'node_modules')))
    if (!name.startsWith('.')) await symlink(join(TOP, 'node_modules', name), join(directory, 'node_modules', name))
  return join(directory, 'scripts', 'vcb.cjs')
}
