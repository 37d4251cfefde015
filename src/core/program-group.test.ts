import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from './clock.ts'
import { isThere } from './files.ts'
import { type GroupOptions, runGroup } from './program-group.ts'

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-group-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

const shell = (script: string, options: Partial<GroupOptions> = {}) =>
  runGroup(['/bin/sh', '-c', script, 'sh', directory], {
    clock: systemClock,
    what: 'run a test program',
    patienceMs: 60_000,
    input: '',
    environment: { PATH: '/usr/bin:/bin' },
    ...options,
  })
const pidOf = async (name: string): Promise<string> => (await readFile(join(directory, name), 'utf8')).trim()
const runs = (pid: string): Promise<boolean> => isThere(`/proc/${pid}/exe`)

test('gets its input and nothing else of the environment; both outputs and its status come back', async () => {
  const { exit, late, output, complaint, cut } = await shell('cat; env | grep -vE "^(PWD|SHLVL|_|OLDPWD)=" >&2; exit 7', {
    input: 'told\n',
  })
  expect([exit, late, output.toString(), complaint.toString(), cut]).toEqual([7, false, 'told\n', 'PATH=/usr/bin:/bin\n', false])
})

test('one that reads nothing, and one that prints without end, are borne', async () => {
  expect((await shell('exit 0', { input: 'x'.repeat(1_000_000) })).exit).toBe(0)
  const { output, cut } = await shell('head -c 300000 /dev/zero')
  expect([output.length, cut]).toEqual([65_536, true])
})

test('what it leaves running is left alone, and its open outputs are not waited for', async () => {
  const { exit, late } = await shell('sleep 600 & echo $! > "$1/left"')
  const pid = await pidOf('left')
  expect([exit, late, await runs(pid)]).toEqual([0, false, true])
  process.kill(Number(pid), 'SIGKILL')
})

test('its time over: told to end in order, with what it started', async () => {
  const ended = await shell('trap "echo bye; exit 3" TERM; sleep 600 & echo $! > "$1/child"; wait', { patienceMs: 200 })
  expect([ended.exit, ended.late, ended.output.toString()]).toEqual([3, true, 'bye\n'])
  expect(await runs(await pidOf('child'))).toBe(false)
})

test('canceled: killed when it does not hear, and that is what is thrown', async () => {
  const controller = new AbortController()
  const running = shell('trap "" TERM; echo $$ > "$1/deaf"; while :; do sleep 600; done', { signal: controller.signal })
  while (!(await isThere(join(directory, 'deaf')))) await systemClock.sleep(20)
  controller.abort(new Error('enough'))
  await expect(running).rejects.toMatchObject({ code: 'CANCELED' })
  expect(await runs(await pidOf('deaf'))).toBe(false)
})

test('no such program, and one that is none', async () => {
  const options = { clock: systemClock, what: 'run a test program', patienceMs: 1000, input: '', environment: {} }
  await expect(runGroup(['/nowhere/program'], options)).rejects.toMatchObject({ code: 'CONFIG' })
  await expect(runGroup([directory], options)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
})
