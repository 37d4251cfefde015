import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

it('loads for --help neither a network stack of Node nor what draws progress', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-start-'))
  try {
    const list = join(directory, 'modules')
    const preload = join(directory, 'preload.cjs')
    await writeFile(
      preload,
      `process.on('exit', () => require('node:fs').writeFileSync(${JSON.stringify(list)}, process.moduleLoadList.join('\\n')))\n`,
    )
    const entry = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
    const { stdout } = await promisify(execFile)(process.execPath, ['--require', preload, entry, '--help'])
    expect(stdout).toContain('Usage: vcb')
    const loaded = (await readFile(list, 'utf8')).split('\n').map((line) => line.replace(/^NativeModule /, ''))
    expect(loaded).toContain('net')
    // Each of these costs ten to forty milliseconds; the command that needs one imports it.
    expect(loaded.filter((name) => ['https', 'http', 'tls', 'sqlite', 'readline/promises', '_http_client'].includes(name))).toEqual([])
  } finally {
    await rm(directory, { recursive: true })
  }
})
