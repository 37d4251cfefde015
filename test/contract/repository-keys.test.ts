import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Secret } from '../../src/core/index.ts'
import { directoryBackend, initRepository, openRepository, type Repository, type RepositoryPlace } from '../../src/restic/index.ts'
import { startSshd } from '../openssh.ts'
import { describePeers } from '../peer.ts'
import { deps, FAST_KDF, PASSWORD } from '../peers/restic-fixture.ts'
import { restPlace } from '../rest-place.ts'
import { startRestServer } from '../rest-server.ts'
import { type Fault, startFaultProxy } from '../s3-faults.ts'
import { makeBucket, s3Place } from '../s3-place.ts'
import { S3_SERVER_PEERS, startS3Server } from '../s3-server.ts'
import { sftpPlace, sftpSubsystem } from '../sftp-place.ts'

/* Keys are added, found and removed alike wherever a repository lies. */

const open = (place: RepositoryPlace, password: string): Promise<Repository> => openRepository(place, new Secret(password), deps())

/** `place` opens the same repository each time. */
async function keysWork(place: () => RepositoryPlace): Promise<void> {
  let password = ''
  await using first = place()
  await using repository = await initRepository(first, new Secret(PASSWORD), deps(), { kdf: FAST_KDF })
  const { id } = await repository.keys.addRandom(async (made) => {
    password = made.reveal()
    return made
  })
  // More than are loaded at once.
  for (let more = 0; more < 6; more++) await repository.keys.addRandom(async (made) => made)
  {
    await using second = place()
    await using other = await open(second, password)
    expect(other.id).toBe(repository.id)
    const listed = await other.keys.list()
    expect(listed).toHaveLength(8)
    expect(listed.filter(({ current }) => current)).toMatchObject([{ id }])
    await expect(other.keys.remove(id)).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('is the one that') })
  }
  expect(await repository.keys.remove(id.slice(0, 12))).toBe(id)
  await expect(open(first, password)).rejects.toMatchObject({ code: 'AUTH' })
  expect(await repository.keys.list()).toHaveLength(7)
  expect(await Array.fromAsync(first.list('lock'))).toEqual([])
}

/** A place that takes new files and removes none but locks. */
async function keysStay(place: RepositoryPlace): Promise<void> {
  await using repository = await initRepository(place, new Secret(PASSWORD), deps(), { kdf: FAST_KDF })
  let password = ''
  const { id } = await repository.keys.addRandom(async (made) => {
    password = made.reveal()
    return made
  })
  await expect(repository.keys.remove(id)).rejects.toMatchObject({
    code: 'CONFIG',
    message: expect.stringContaining(`does not let the key ${id} be removed: `),
    next: expect.stringContaining('on the server itself'),
  })
  await using same = await open(place, password)
  expect(same.id).toBe(repository.id)
  expect(await Array.fromAsync(place.list('lock'))).toEqual([])
}

describe('keys of a repository in a directory', () => {
  it('are added, used and removed', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'vcb-keys-'))
    try {
      await keysWork(() => directoryBackend(join(directory, 'repo')))
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
})

describePeers(['sshd', 'ssh'], 'keys of a repository on an SFTP server', (paths) => {
  it('are added, used and removed', async () => {
    await using sshd = await startSshd(paths.sshd, [sftpSubsystem()])
    await keysWork(() => sftpPlace(sshd, { name: 'keys' }))
  })
})

describePeers(['rclone'], 'keys of a repository on a REST server', (paths) => {
  it('are added, used and removed', async () => {
    await using server = await startRestServer(paths.rclone)
    await keysWork(() => restPlace(`http://127.0.0.1:${server.port}`, { name: 'keys' }))
  })

  it('are added where it is append-only, and not removed', async () => {
    await using server = await startRestServer(paths.rclone, ['--append-only'])
    await using place = restPlace(`http://127.0.0.1:${server.port}`, { name: 'keys' })
    await keysStay(place)
  })
})

describePeers(S3_SERVER_PEERS, 'keys of a repository in a bucket', (paths) => {
  it('are added, used and removed, and stay where the key pair may only add', async () => {
    await using server = await startS3Server(paths)
    const bucket = await makeBucket(server)
    await keysWork(() => s3Place(server, bucket))
    const onlyAdds = ({ method, url = '' }: { method?: string | undefined; url?: string | undefined }): Fault =>
      method === 'DELETE' && !url.includes('/locks/') ? { status: 403, code: 'AccessDenied' } : 'none'
    await using proxy = await startFaultProxy(server.port, onlyAdds)
    await using place = s3Place(server, await makeBucket(server), { endpoint: proxy.endpoint })
    await keysStay(place)
  })
})
