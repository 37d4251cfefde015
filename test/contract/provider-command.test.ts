import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MIB, type RunId, silentLog, systemClock } from '../../src/core/index.ts'
import { type CommandDeps } from '../../src/provider/command-output.ts'
import { openCommandProvider } from '../../src/provider/command-provider.ts'
import { openProvider } from '../../src/provider/index.ts'
import { openTarProvider } from '../../src/provider/tar-provider.ts'
import { diskRef, expectPoint, nextTime, noise, plan, vmConfig, WatchedDisk, whole, writePoint } from './provider-fixtures.ts'
import { fastDirectory } from '../fast-directory.ts'

const deps: CommandDeps = { clock: systemClock, log: silentLog }
const SIZE = 6 * MIB
const TOP = join(import.meta.dirname, '..', '..')

let directory: string
beforeEach(async () => {
  directory = await fastDirectory('vcb-command-')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

/** A program for `command:`, kept in a script, and a provider that uses it. `$D` is the case's directory. */
async function program(script: string, more: Partial<CommandDeps> = {}, environment: NodeJS.ProcessEnv = {}) {
  const path = join(directory, 'program')
  await writeFile(path, `#!/bin/sh\n${script}\n`)
  await chmod(path, 0o755)
  return openCommandProvider(`${path} one  two`, { PATH: process.env['PATH'], D: directory, ...environment }, { ...deps, ...more })
}

/** Records whatever it was given at the end of its input, as most programs do. */
const RECORDS = 'echo $$ > "$D/pid"; cat > "$D/part" && mv "$D/part" "$D/record.tar"'

const source = () => new WatchedDisk(noise(SIZE, 1))
const put = (provider: Awaited<ReturnType<typeof program>>, disk = source()) =>
  writePoint(provider, [{ disk: diskRef(2000, SIZE), source: disk }])
const files = async () => (await readdir(directory)).filter((name) => name !== 'program').sort()

function alive(pid: number): boolean {
  try {
    return !execFileSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' }).startsWith('Z')
  } catch {
    return false // ps knows no such process
  }
}

async function expectProgramGone(): Promise<void> {
  const pid = Number(await readFile(join(directory, 'pid'), 'utf8'))
  await expect.poll(() => alive(pid), { timeout: 10_000 }).toBe(false)
}

describe('command: a program that takes a stream', () => {
  it('is given one archive a point, which vcb reads back byte for byte', async () => {
    const provider = await program(`${RECORDS}; sha256sum < "$D/record.tar"; printf '%s|' "$@" "$VCB_VM" "$VCB_POINT" > "$D/told"`)
    const disk = source()
    const { id } = await put(provider, disk)
    expect(await readFile(join(directory, 'told'), 'utf8')).toBe(`one|two|web01|${id}|`)
    expect(provider).toMatchObject({ name: 'command', url: `command:${directory}/program one two`, points: undefined })
    await using back = await openTarProvider(join(directory, 'record.tar'), { log: silentLog })
    await expectPoint(back, 'record' as never, new Map([[2000, disk.bytes]]))
  })

  it('gets no secret of ours, and what else it needs of the environment', async () => {
    const provider = await program(`cat > /dev/null; env > "$D/env"`, {}, { VCB_REPO_PASSWORD: 'hush', BORG_PASSCOMMAND: 'cat f' })
    await put(provider)
    const environment = await readFile(join(directory, 'env'), 'utf8')
    expect(environment).not.toContain('hush')
    expect(environment).toContain('BORG_PASSCOMMAND=cat f')
  })

  it('fails with its status and the last it said', async () => {
    const provider = await program('cat > /dev/null; echo "no tape in drive" >&2; exit 3')
    await expect(put(provider)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/ended with status 3 .*no tape in drive/),
    })
  })

  it.each([0, 1024, 3 * MIB])('is not believed when it ends with status 0 after reading %d bytes', async (bytes) => {
    const provider = await program(`head -c ${bytes} > /dev/null; exit 0`)
    await expect(put(provider)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('ended with status 0') })
  })

  it('is not believed when the digest it prints is of something else', async () => {
    const provider = await program('head -c 1000 | sha256sum; cat > /dev/null')
    await expect(put(provider)).rejects.toMatchObject({ code: 'INTEGRITY', message: expect.stringContaining('read something else') })
  })

  it('that does not exist is CONFIG', async () => {
    const provider = openCommandProvider(join(directory, 'none'), { PATH: '/bin' }, deps)
    await expect(put(provider)).rejects.toMatchObject({ code: 'CONFIG', message: expect.stringContaining('cannot be started') })
    expect(() => openCommandProvider('  ', {}, deps)).toThrow('names no program')
  })

  it('killed with -9 fails the point', async () => {
    const provider = await program('head -c 1000000 > /dev/null; kill -9 $$')
    await expect(put(provider)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('by SIGKILL') })
  })

  it.each([0, 0.5, 0.99])('never sees the end of a stream whose source fails at %d of the disk', async (share) => {
    const provider = await program(RECORDS)
    const disk = source()
    disk.failAt = Math.floor(SIZE * share)
    await expect(put(provider, disk)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await expectProgramGone()
    expect(await files()).not.toContain('record.tar')
  })

  it('never sees the end of a stream that is abandoned before its commit', async () => {
    const provider = await program(RECORDS)
    const disk = diskRef(2000, SIZE)
    {
      await using writer = await provider.begin({ config: vmConfig('web01', [disk]), run: 'aaaaaaaaaa' as RunId, time: nextTime() })
      await writer.putDisk(disk, source(), plan('full', whole(SIZE)))
      await expect.poll(files).toContain('pid')
    }
    await expectProgramGone()
    expect(await files()).not.toContain('record.tar')
  })

  it('that reads nothing is ended after the stall limit, also when it ignores TERM', async () => {
    const provider = await program(`trap '' TERM; echo $$ > "$D/pid"; while :; do sleep 1; done`, {
      patience: { stallMs: 300, endMs: 300 },
    })
    await expect(put(provider)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('read nothing for 0.3 s') })
    await expectProgramGone()
  })

  it('that does not end after the end of the stream is ended', async () => {
    const provider = await program(`echo $$ > "$D/pid"; cat > /dev/null; sleep 60`, { patience: { stallMs: 10_000, endMs: 300 } })
    await expect(put(provider)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('did not end within 0.3 s') })
    await expectProgramGone()
  })

  it('is ended at once on cancel, while it reads nothing', async () => {
    const provider = await program(`echo $$ > "$D/pid"; sleep 60; cat > "$D/record.tar"`)
    const controller = new AbortController()
    const disk = diskRef(2000, SIZE)
    const request = { config: vmConfig('web01', [disk]), run: 'bbbbbbbbbb' as RunId, time: nextTime() }
    await using writer = await provider.begin(request, { signal: controller.signal })
    const putting = writer.putDisk(disk, source(), plan('full', whole(SIZE)), { signal: controller.signal })
    const failure = expect(putting).rejects.toSatisfy((error) => error instanceof Error)
    await expect.poll(files).toContain('pid')
    controller.abort()
    await failure
    await expectProgramGone()
    expect(await files()).not.toContain('record.tar')
  })

  it.each([1, 300_000, 5 * MIB])('never sees the end of the stream when we are killed with -9 after %d bytes', async (bytes) => {
    await program(RECORDS)
    const at = (path: string): string => JSON.stringify(pathToFileURL(join(TOP, 'src', path)).href)
    const text = `
      import { commandOutput } from ${at('provider/command-output.ts')}
      import { silentLog, systemClock } from ${at('core/index.ts')}
      const output = await commandOutput([process.env.D + '/program'], process.env, { clock: systemClock, log: silentLog })
      for (let left = ${bytes}; left > 0; left -= 65536) await output.write(Buffer.alloc(Math.min(left, 65536), 1))
      const { existsSync } = await import('node:fs')
      while (!existsSync(process.env.D + '/pid')) await systemClock.sleep(10)
      process.kill(process.pid, 'SIGKILL')`
    const child = spawn(process.execPath, ['--input-type=module', '--eval', text], {
      env: { ...process.env, D: directory },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const [, signal] = await once(child, 'exit')
    expect(signal).toBe('SIGKILL')
    await expectProgramGone()
    expect(await files()).not.toContain('record.tar')
  })

  it('is what a --repo of its kind opens', async () => {
    const more = { random: () => new Uint8Array(8), hostname: 'proxy', username: 'vcb', pid: 1, environment: { PATH: '/bin:/usr/bin' } }
    await using provider = await openProvider('command:cat a:b', { ...deps, ...more })
    expect(provider.url).toBe('command:cat a:b')
  })
})
