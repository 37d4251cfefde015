/**
 * `npm run check`: everything about the tree that a machine can judge without running it. Prints each part with ok or failed; ends with
 * status 1 when one failed. `npm run check -- layers bans` runs only the named parts.
 */
import { execFile, execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkBans } from './check-bans.ts'
import { checkLayers } from './check-layers.ts'
import { checkLinks, checkMachinePaths, checkSizes, describeSizes } from './check-tree.ts'
import type { Finding, SourceFile } from './source-text.ts'

const TOP = join(import.meta.dirname, '..')
const BINARY = /\.(?:png|jpe?g|gif|ico|gz|xz|zst|bin|img|raw|vmdk|tar|pem|der|woff2?)$/

type Result = { readonly ok: boolean; readonly report: string }

/** One of the tools in node_modules, as `npx` would run it. */
const tool = (name: string, ...args: readonly string[]): Promise<Result> =>
  new Promise((resolve) => {
    const options = { cwd: TOP, maxBuffer: 64 * 1024 * 1024 }
    execFile(join(TOP, 'node_modules', '.bin', name), args, options, (error, stdout, stderr) => {
      resolve({ ok: error === null, report: `${stdout}${stderr}${error !== null && stdout + stderr === '' ? error.message : ''}` })
    })
  })

const findings = (found: readonly Finding[]): Promise<Result> =>
  Promise.resolve({ ok: found.length === 0, report: found.map(({ path, line, what }) => `${path}:${line}: ${what}\n`).join('') })

/** The files of the project as git sees them: tracked or new, not ignored, and still there. */
function readTree(): SourceFile[] {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: TOP, encoding: 'utf8' })
  return [...new Set(listed.split('\0'))]
    .filter((path) => path !== '' && !path.startsWith('test/golden/') && !BINARY.test(path))
    .flatMap((path) => {
      try {
        return [{ path, text: readFileSync(join(TOP, path), 'utf8') }]
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
        throw error
      }
    })
}

const files = readTree()
const PARTS: Readonly<Record<string, () => Promise<Result>>> = {
  types: () => tool('tsc', '--noEmit', '-p', '.'),
  lint: () => tool('oxlint', '--type-aware', '--deny-warnings'),
  format: () => tool('biome', 'format', '.'),
  layers: () => findings(checkLayers(files)),
  bans: () => findings(checkBans(files)),
  sizes: () => findings(checkSizes(files)),
  links: () => findings(checkLinks(files)),
  paths: () => findings(checkMachinePaths(files, TOP)),
}

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => PARTS[name] === undefined)
if (unknown.length > 0) throw new Error(`No such part: ${unknown.join(', ')}. The parts are ${Object.keys(PARTS).join(', ')}.`)

let failed = 0
for (const [name, run] of Object.entries(PARTS)) {
  if (asked.length > 0 && !asked.includes(name)) continue
  const { ok, report } = await run()
  console.log(`${name.padEnd(8)} ${ok ? 'ok' : 'failed'}${name === 'sizes' ? `  (${describeSizes(files)})` : ''}`)
  if (!ok) {
    failed++
    console.log(report.trimEnd().replace(/^/gm, '  '))
  }
}
if (failed > 0) {
  console.log(`\n${failed} of the checks failed.`)
  process.exitCode = 1
}
