import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Secret, systemClock } from '../core/index.ts'
import { type ServerProgram, startServer } from './server-program.ts'

const directory = mkdtempSync(join(tmpdir(), 'vcb-program-'))
afterAll(() => rmSync(directory, { recursive: true }))

const shell = (script: string, more: Partial<ServerProgram> = {}): ServerProgram => ({
  program: '/bin/sh',
  arguments: ['-c', script],
  environment: { PATH: process.env['PATH'] ?? '' },
  ...more,
})
const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    // No such process.
    return false
  }
}

describe('startServer', () => {
  it('says which program is missing', async () => {
    const missing = startServer({ ...shell(''), program: '/nowhere/nbdkit' }, systemClock)
    await expect(missing).rejects.toMatchObject({ code: 'CONFIG', message: 'The program /nowhere/nbdkit does not exist.' })
  })

  it('hands the secret over file descriptor 3, and joins the pipes to one stream', async () => {
    await using server = await startServer(shell('read secret <&3; echo "$secret"; cat', { secret: new Secret('hidden\n') }), systemClock)
    server.stream.write('to and fro\n')
    let said = ''
    for await (const piece of server.stream) {
      said += String(piece)
      if (said.endsWith('fro\n')) break
    }
    expect(said).toBe('hidden\nto and fro\n')
  })

  it('leaves no process, whether it ends with its input, at a word, or not even then', async () => {
    for (const [index, script] of ['cat >/dev/null', 'exec sleep 60', "trap '' TERM; while :; do sleep 0.1; done"].entries()) {
      const file = join(directory, `pid${index}`)
      const server = await startServer(shell(`echo $$ >${file}; echo ready; ${script}`), systemClock)
      await new Promise((resolve) => server.stream.once('data', resolve))
      const pid = Number(readFileSync(file, 'utf8'))
      expect(isAlive(pid)).toBe(true)
      await server[Symbol.asyncDispose]()
      expect(isAlive(pid)).toBe(false)
    }
  })
})
