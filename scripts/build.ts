import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { rolldown } from 'rolldown'

/**
 * `npm run build`: the command and what it uses as a few JavaScript files in `dist/` (`--into DIR` elsewhere), for an installation without the
 * sources. Reading a handful of files instead of five hundred also halves what a start costs. Packages with binaries stay packages.
 */
const TOP = join(import.meta.dirname, '..')

/** File name → entry. Threads and processes of their own are found beside the file that starts them, so each is an entry. */
const ENTRIES = { main: 'src/cli/main.ts', 'seal-worker': 'src/restic/seal-worker.ts' }
/** ssh2 finds its WebAssembly beside itself. */
const WITH_BINARIES = ['sodium-native', 'ssh2']

export const buildCommand = (into: string): Promise<void> => bundle(ENTRIES, into)

/** What these entries use, in `into`, which is made anew. Below the project, so that its packages are found. */
export async function bundle(input: Readonly<Record<string, string>>, into: string): Promise<void> {
  await rm(into, { recursive: true, force: true })
  const build = await rolldown({ cwd: TOP, input, platform: 'node', external: WITH_BINARIES })
  try {
    await build.write({ dir: into, format: 'esm', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js', sourcemap: false })
  } finally {
    await build.close()
  }
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { into: { type: 'string', default: join(TOP, 'dist') } } })
  const into = resolve(values.into)
  await buildCommand(into)
  console.log(`built ${into}`)
}
