import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Secret, systemClock } from '../core/index.ts'
import { askProgram, type ServerProgram, startServer } from './server-program.ts'

const directory = mkdtempSync(join(tmpdir(), 'vcb-program-'))
afterAll(() => rmSync(directory, { recursive: true }))

const shell = (script: string, more: Partial<ServerProgram> = {}): ServerProgram => ({
  program: '/bin/sh',
  arguments: ['-c', script],
  environment: { PATH: process.env['PATH'] ?? '' },
  ...more,
})
const patient = { limit: 1000, patienceMs: 20_000 }
const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    // No such process.
    return false
  }
}

describe('askProgram', () => {
  it('gives what the program prints, with no word of our environment but what it is given', async () => {
    const script = 'echo "[$GIVEN] [$VCB_PASSWORD]"'
    process.env['VCB_PASSWORD'] = 'secret'
    try {
      const said = await askProgram(shell(script, { environment: { PATH: '/bin:/usr/bin', GIVEN: 'yes' } }), systemClock, patient)
      expect(said).toBe('[yes] []\n')
    } finally {
      delete process.env['VCB_PASSWORD']
    }
  })

  it('says which program is missing', async () => {
    const missing = askProgram({ ...shell(''), program: '/nowhere/nbdkit' }, systemClock, patient)
    await expect(missing).rejects.toMatchObject({ code: 'CONFIG', message: 'The program /nowhere/nbdkit does not exist.' })
  })

  it('gives up on one that says nothing, and repeats what one that fails complains of', async () => {
    const silent = askProgram(shell('exec sleep 60'), systemClock, { limit: 1000, patienceMs: 100 })
    await expect(silent).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('did not answer within 0.1 s') })
    const failing = askProgram(shell('echo "no such library" >&2; exit 1'), systemClock, patient)
    await expect(failing).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('said nothing: no such library') })
  })

  it('is canceled, and reads no more than its limit of one that never stops', async () => {
    const cancel = new AbortController()
    const canceled = askProgram(shell('exec sleep 60'), systemClock, { ...patient, signal: cancel.signal })
    setTimeout(() => cancel.abort(), 50)
    await expect(canceled).rejects.toMatchObject({ code: 'CANCELED' })
    const endless = await askProgram(shell('while :; do echo yyyyyyyyyyyyyyyyyyyy; done'), systemClock, patient)
    expect(endless.length).toBeLessThan(1000 + 1024 * 1024)
  })
})

describe('startServer', () => {
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
  }, 20_000)
})
