import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { main } from '../../src/cli/main.ts'

/* `vcb config check`: what an administrator sees of a file that is wrong, and of one that is right. */

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-config-check-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

async function check(text: string, ...argv: readonly string[]): Promise<{ exit: number; out: string; err: string }> {
  const config = join(directory, 'vcb.yaml')
  await writeFile(config, text)
  let [out, err] = ['', '']
  const exit = await main(['config', 'check', '--config', config, ...argv], {
    environment: {},
    out: (part) => {
      out += part
    },
    err: (part) => {
      err += part
    },
    interactive: false,
    signal: new AbortController().signal,
  })
  return { exit, out: out.replaceAll(`${directory}/`, ''), err }
}

const WRONG =
  'repository: { url: /backup }\njobs:\n  - { name: a, select: web, windows: mon-fir }\n  - { name: a, select: db, copyTo: tape }\n'

test('a wrong file: every problem on a line of its own, and status 3', async () => {
  expect(await check(WRONG)).toEqual({
    exit: 3,
    err: '',
    out: [
      'vcb.yaml:3:38: jobs[0].windows: "mon-fir" is not a window: "fir" is no day; did you mean "fri"? Write it like "mon-fri 22:00-06:00", "sat,sun" or "22:00-06:00"',
      'vcb.yaml:4:13: jobs[1].name: jobs[0] has the name "a" already',
      'vcb.yaml:4:36: jobs[1].copyTo: there is no repository "tape"',
      '3 problems in vcb.yaml.',
      '',
    ].join('\n'),
  })
})

test('the same as one document', async () => {
  const { exit, out } = await check(WRONG, '--json')
  expect([exit, JSON.parse(out)]).toEqual([
    3,
    {
      file: 'vcb.yaml',
      problems: [
        expect.objectContaining({ line: 3, column: 38, at: 'jobs[0].windows' }),
        expect.objectContaining({ line: 4, column: 13, at: 'jobs[1].name' }),
        { file: 'vcb.yaml', line: 4, column: 36, at: 'jobs[1].copyTo', message: 'there is no repository "tape"' },
      ],
    },
  ])
})

test('a right file: what is in it, and status 0; no secret is read', async () => {
  const secret = join(directory, 'pw')
  await writeFile(secret, 'correct horse\n')
  await chmod(secret, 0o600)
  const { exit, out, err } = await check('repository: { url: /backup, passwordFile: pw }\njobs:\n  - { name: a, select: web, rpo: 24h }\n')
  expect([exit, out, err]).toEqual([0, 'vcb.yaml is in order: 1 job, 1 repository.\n', ''])
})

test('a file that was named and is missing is one error', async () => {
  const err: string[] = []
  const io = { environment: {}, out: () => undefined, err: (text: string) => void err.push(text), interactive: false }
  const exit = await main(['config', 'check', '--config', '/nowhere/vcb.yaml'], { ...io, signal: new AbortController().signal })
  expect([exit, err.join('')]).toEqual([3, expect.stringContaining('does not exist')])
})
