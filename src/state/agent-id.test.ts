import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createIds } from '../core/index.ts'
import { openAgentId } from './agent-id.ts'

let directory = ''
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-agent-id-'))
})
afterEach(async () => {
  await rm(directory, { recursive: true, force: true })
})
const ids = createIds()

describe('the agent id', () => {
  it('is made once, kept in a file of its own, private to the user', async () => {
    const place = join(directory, 'state')
    const id = await openAgentId(place, () => ids.agent())
    expect(id).toMatch(/^[0-9a-f]{24}$/)
    expect(await openAgentId(place, () => ids.agent())).toBe(id)
    expect(await readdir(place)).toEqual(['agent-id'])
    expect((await stat(join(place, 'agent-id'))).mode & 0o777).toBe(0o600)
    expect(await readFile(join(place, 'agent-id'), 'utf8')).toBe(`${id}\n`)
  })

  it('is the same for all of several processes that open a new state directory at once', async () => {
    const script = `import { openAgentId } from '${join(import.meta.dirname, 'agent-id.ts')}'
      import { createIds } from '${join(import.meta.dirname, '..', 'core', 'index.ts')}'
      console.log(await openAgentId(process.argv[1], () => createIds().agent()))`
    const run = promisify(execFile)
    const found = await Promise.all(
      Array.from({ length: 5 }, () => run(process.execPath, ['--input-type=module', '-e', script, directory])),
    )
    expect(new Set(found.map(({ stdout }) => stdout)).size).toBe(1)
    expect(found[0]?.stdout).toMatch(/^[0-9a-f]{24}\n$/)
    expect(await readdir(directory)).toEqual(['agent-id'])
  })

  it('leaves no temporary file of a process that was killed while it made one', async () => {
    await writeFile(join(directory, 'agent-id.999999999.tmp'), '0123')
    await openAgentId(directory, () => ids.agent())
    expect(await readdir(directory)).toEqual(['agent-id'])
  })

  it.each(['', '\n', 'ABABABABABABABABABABABAB\n', 'not an id\n', '0'.repeat(24)])(
    'is never guessed from a damaged file: %j',
    async (text) => {
      await writeFile(join(directory, 'agent-id'), text)
      await expect(openAgentId(directory, () => ids.agent())).rejects.toMatchObject({
        code: 'INTEGRITY',
        subject: join(directory, 'agent-id'),
      })
      expect(await readFile(join(directory, 'agent-id'), 'utf8')).toBe(text)
    },
  )
})
