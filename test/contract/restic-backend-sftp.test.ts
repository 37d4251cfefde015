import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RunId } from '../../src/core/index.ts'
import { CONFIG_FILE } from '../../src/restic/index.ts'
import { type OpenSshd, startSshd } from '../openssh.ts'
import { describePeer } from '../peer.ts'
import { sftpPlace, sftpSubsystem } from '../sftp-place.ts'
import { backendContract } from './restic-backend.ts'

const newName = (): string => randomBytes(32).toString('hex')

describePeer('sshd', 'a repository over SFTP', (program) => {
  let sshd: OpenSshd
  let plain: OpenSshd
  beforeAll(async () => {
    sshd = await startSshd(program, [sftpSubsystem()])
    plain = await startSshd(program, [sftpSubsystem('-P posix-rename,fsync,statvfs')])
  })
  afterAll(async () => {
    await sshd?.[Symbol.asyncDispose]()
    await plain?.[Symbol.asyncDispose]()
  })

  backendContract('over SFTP', async () => {
    const backend = sftpPlace(sshd)
    return { backend, [Symbol.asyncDispose]: () => backend[Symbol.asyncDispose]() }
  })

  backendContract('over SFTP without extensions', async () => {
    const backend = sftpPlace(plain)
    return { backend, [Symbol.asyncDispose]: () => backend[Symbol.asyncDispose]() }
  })

  it('lies there as in a directory, readable by the owner only, without leftovers', async () => {
    const name = `ab${newName().slice(2)}`
    const run = 'run0000001' as RunId
    await using backend = sftpPlace(sshd, { run })
    await backend.save(CONFIG_FILE, Buffer.from('x'))
    await backend.save({ kind: 'data', name }, randomBytes(10))
    await backend.save({ kind: 'lock', name }, randomBytes(10))
    expect((await readdir(backend.path)).sort()).toEqual(['.run0000001.partial', 'config', 'data', 'index', 'keys', 'locks', 'snapshots'])
    expect(await readdir(join(backend.path, 'data', 'ab'))).toEqual([name])
    expect(await readdir(join(backend.path, '.run0000001.partial'))).toEqual([])
    expect(await readdir(join(backend.path, 'locks'))).toEqual([name])
    expect((await stat(join(backend.path, 'data', 'ab', name))).mode & 0o777).toBe(0o600)
    expect((await stat(join(backend.path, 'data', 'ab'))).mode & 0o777).toBe(0o700)
    await backend[Symbol.asyncDispose]()
    expect(await readdir(backend.path)).not.toContain('.run0000001.partial')
  })

  it('a file is under no name while it is written: what was begun by a dead process is in no list, and goes by its run', async () => {
    await using backend = sftpPlace(sshd)
    const name = newName()
    await backend.save({ kind: 'index', name }, randomBytes(10))
    await writeFile(join(backend.path, 'index', `${name}-tmp-1-1`), 'half')
    await mkdir(join(backend.path, 'index', newName()))
    for (const run of ['dead000000', 'live000000']) {
      await mkdir(join(backend.path, `.${run}.partial`))
      await writeFile(join(backend.path, `.${run}.partial`, `${name}-1-1`), 'half')
    }
    expect(await Array.fromAsync(backend.list('index'))).toEqual([{ name, size: 10 }])
    expect(await backend.removeHalfSaved('dead000000' as RunId)).toEqual([`${backend.url} ${backend.path}/.dead000000.partial`])
    expect(await backend.removeHalfSaved('dead000000' as RunId)).toEqual([])
    expect((await readdir(backend.path)).sort()).toEqual(['.live000000.partial', 'index'])
  })

  it('a lock goes with what was half saved of it, also when its process is gone', async () => {
    await using backend = sftpPlace(sshd)
    const [ours, theirs] = [newName(), newName()]
    for (const name of [ours, theirs]) await backend.save({ kind: 'lock', name }, Buffer.from('sealed'))
    await writeFile(join(backend.path, 'locks', `${ours}-tmp-77-1`), 'sea')
    await writeFile(join(backend.path, 'locks', `${theirs}-tmp-78-1`), 'sea')
    await backend.remove({ kind: 'lock', name: ours })
    expect((await readdir(join(backend.path, 'locks'))).sort()).toEqual([theirs, `${theirs}-tmp-78-1`].sort())
  })

  it('a repository that was not finished goes, a complete one stays', async () => {
    await using backend = sftpPlace(sshd)
    const key = newName()
    await backend.save({ kind: 'key', name: key }, Buffer.from('key'))
    await writeFile(join(backend.path, 'keys', `${key}-tmp-1-1`), 'k')
    await writeFile(join(backend.path, 'config-tmp-1-2'), 'c')
    await mkdir(join(backend.path, 'data', 'ab'), { recursive: true })
    await backend.removeUnfinished(key)
    await backend.removeUnfinished(key)
    expect(await readdir(backend.path)).toEqual([])
    await backend.save({ kind: 'key', name: key }, Buffer.from('key'))
    await backend.save(CONFIG_FILE, Buffer.from('config'))
    await backend.removeUnfinished(key)
    expect(await Array.fromAsync(backend.list('key'))).toHaveLength(1)
  })

  it('large files travel whole, into the memory that is given', async () => {
    await using backend = sftpPlace(sshd)
    const file = { kind: 'data', name: newName() } as const
    // As the pack writer has it: memory that threads share.
    const data = Buffer.from(new SharedArrayBuffer(17 * 1024 * 1024 + 13))
    randomBytes(data.length).copy(data)
    await backend.save(file, data)
    const into = Buffer.alloc(20 * 1024 * 1024)
    const loaded = await backend.load(file, { into })
    expect(loaded.buffer).toBe(into.buffer)
    expect(Buffer.compare(loaded, data)).toBe(0)
    expect(Buffer.compare(await readFile(join(backend.path, 'data', file.name.slice(0, 2), file.name)), data)).toBe(0)
  })

  describe('without renaming over files', () => {
    it('the same content stays as it is, other content takes its place', async () => {
      await using backend = sftpPlace(plain)
      const file = { kind: 'data', name: newName() } as const
      const path = join(backend.path, 'data', file.name.slice(0, 2), file.name)
      await backend.save(file, Buffer.from('the same'))
      const { ino } = await stat(path)
      await backend.save(file, Buffer.from('the same'))
      expect((await stat(path)).ino).toBe(ino)
      await writeFile(path, 'damaged!')
      await backend.save(file, Buffer.from('the same'))
      expect(await readFile(path, 'utf8')).toBe('the same')
      expect(await readdir(join(path, '..'))).toEqual([file.name])
    })
  })

  it('reports a full disk of the server as CAPACITY and leaves no part of the file', async (context) => {
    const small = await mkdtemp(join(sshd.directory, 'full-'))
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small])
    if (mounted.status !== 0) return context.skip('mounting a small file system needs root')
    try {
      await using backend = sftpPlace(sshd, { name: small.slice(sshd.directory.length + 1) })
      const name = newName()
      await expect(backend.save({ kind: 'data', name }, randomBytes(2_000_000))).rejects.toMatchObject({
        code: 'CAPACITY',
        message: expect.stringContaining('No space is left on sshd'),
      })
      expect(await readdir(join(backend.path, 'data', name.slice(0, 2)))).toEqual([])
    } finally {
      spawnSync('umount', [small])
      await rm(small, { recursive: true, force: true })
    }
  })

  it('a server without SFTP, a wrong host key and a refused login are told apart, and not tried again', async () => {
    await using none = await startSshd(program)
    await using without = sftpPlace(none)
    await expect(without.stat(CONFIG_FILE)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('opened no SFTP session'),
    })
    const pin = async () => ({ fingerprints: [`SHA256:${'A'.repeat(43)}`] })
    await using wrong = sftpPlace(sshd, { host: { pin } })
    await expect(wrong.stat(CONFIG_FILE)).rejects.toMatchObject({ code: 'AUTH', message: expect.stringContaining('The SSH host key') })
    await using unpinned = sftpPlace(sshd, { host: { pin: async () => ({ fingerprints: [] }), pinnedIn: 'repositories.nas.ssh' } })
    await expect(unpinned.stat(CONFIG_FILE)).rejects.toMatchObject({
      code: 'AUTH',
      next: expect.stringContaining('hostKey into repositories.nas.ssh'),
    })
    await using nobody = sftpPlace(sshd, { host: { user: 'nobody' } })
    await expect(nobody.stat(CONFIG_FILE)).rejects.toMatchObject({ code: 'AUTH', next: expect.not.stringContaining('ESXi') })
  })
})
