import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { main } from '../../src/cli/main.ts'

/* `vcb config check` and `vcb config explain`: what an administrator sees of a file that is wrong, and of one that is right. */

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-config-check-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

type Said = { readonly exit: number; readonly out: string; readonly err: string }

const check = (text: string, ...argv: readonly string[]): Promise<Said> => command('check', text, ...argv)

async function command(name: string, text: string, ...argv: readonly string[]): Promise<Said> {
  const config = join(directory, 'vcb.yaml')
  await writeFile(config, text)
  let [out, err] = ['', '']
  const exit = await main(['config', name, '--config', config, ...argv], {
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

const RIGHT = 'parallel: 3\nrepository: { url: /backup }\njobs:\n  - name: night\n    select: web*\n    rpo: 24h\n'

test('explain: each setting with its value and where it comes from', async () => {
  const { exit, out } = await command('explain', RIGHT, '--quiesce', 'none')
  const rows = out.split('\n').map((line) => line.split(/\s{2,}/))
  expect([exit, rows]).toEqual([
    0,
    expect.arrayContaining([
      ['SETTING', 'VALUE', 'FROM'],
      ['parallel', '3', 'vcb.yaml:1'],
      ['quiesce', 'none', 'flag --quiesce'],
      ['changeTracking', 'yes', 'default'],
      ['space.guard', 'yes', 'default'],
    ]),
  ])
})

test('explain of a job, as one document', async () => {
  const { exit, out } = await command('explain', RIGHT, 'night', '--json')
  const { job, settings } = JSON.parse(out) as { job: string; settings: object[] }
  expect([exit, job]).toEqual([0, 'night'])
  expect(settings).toContainEqual({ key: 'rpo', value: '1d', origins: [{ from: 'file', file: 'vcb.yaml', line: 6 }] })
  expect(settings).toContainEqual({ key: 'quiesce', value: 'try', origins: [{ from: 'default' }] })
})

test('explain of a job there is not is status 5, of a wrong file status 3', async () => {
  expect(await command('explain', RIGHT, 'nigth')).toEqual({
    exit: 5,
    out: '',
    err: 'vcb: There is no job "nigth".\n     Did you mean "night"?\n',
  })
  expect(await command('explain', WRONG)).toMatchObject({ exit: 3, err: expect.stringContaining('vcb config check') })
})

test('programs at stages that are not fit to be run, and a policy that could not hold', async () => {
  const open = join(directory, 'open')
  await writeFile(open, '#!/bin/sh\n')
  await chmod(open, 0o777)
  const stages = `stages: [{ at: preRun, command: [${open}, x] }, { at: postStore, command: /nowhere/x }, { at: postRun, command: /bin/sh, policy: require }]`
  const { exit, out } = await check(`repository: { url: /backup }\njobs:\n  - { name: a, select: web, ${stages} }\n`)
  expect(exit).toBe(3)
  expect(out).toContain('open can be changed by everybody (mode 777); chmod o-w it')
  expect(out).toContain('jobs[0].stages[1].command: the program /nowhere/x does not exist')
  expect(out).toContain('jobs[0].stages[2].policy: the point is stored by then')
})
