import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { CONFIG_FILE, directoryBackend } from '../../src/restic/index.ts'
import { type BackendFixture, backendContract } from './restic-backend.ts'
import { fastDirectory } from '../fast-directory.ts'

async function make(): Promise<BackendFixture & { readonly path: string }> {
  const path = await fastDirectory('vcb-backend-')
  return { path, backend: directoryBackend(join(path, 'repo')), [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

backendContract('directory', make)

it('lays files out as restic does on a local disk, readable by the owner only, without leftovers', async () => {
  await using fixture = await make()
  const name = `ab${randomBytes(31).toString('hex')}`
  await fixture.backend.save(CONFIG_FILE, Buffer.from('x'))
  await fixture.backend.save({ kind: 'data', name }, randomBytes(10))
  const root = join(fixture.path, 'repo')
  expect((await readdir(root)).sort()).toEqual(['config', 'data', 'index', 'keys', 'locks', 'snapshots'])
  expect(await readdir(join(root, 'data'))).toEqual(['ab'])
  expect(await readdir(join(root, 'data', 'ab'))).toEqual([name])
  expect((await stat(join(root, 'data', 'ab', name))).mode & 0o777).toBe(0o400)
  expect((await stat(join(root, 'data', 'ab'))).mode & 0o777).toBe(0o700)
})

it('passes over files that are not of the repository', async () => {
  await using fixture = await make()
  const name = randomBytes(32).toString('hex')
  await fixture.backend.save({ kind: 'index', name }, randomBytes(10))
  await writeFile(join(fixture.path, 'repo', 'index', `${name}-tmp-1`), 'half written')
  await mkdir(join(fixture.path, 'repo', 'index', randomBytes(32).toString('hex')))
  expect(await Array.fromAsync(fixture.backend.list('index'))).toEqual([{ name, size: 10 }])
})

it('reports a full disk as CAPACITY and leaves no part of the file', async (context) => {
  const path = await fastDirectory('vcb-full-')
  try {
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', path])
    if (mounted.status !== 0) return context.skip('mounting a small file system needs root')
    const backend = directoryBackend(join(path, 'repo'))
    const name = randomBytes(32).toString('hex')
    await expect(backend.save({ kind: 'data', name }, randomBytes(2_000_000))).rejects.toMatchObject({ code: 'CAPACITY' })
    expect(await readdir(join(path, 'repo', 'data', name.slice(0, 2)))).toEqual([])
  } finally {
    spawnSync('umount', [path])
    await rm(path, { recursive: true, force: true })
  }
})
