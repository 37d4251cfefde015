import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { readSection } from '../../test/config-section.ts'
import type { SftpPlace } from '../provider/index.ts'
import { repositoriesKeys, repositoriesOf } from './config/repositories.ts'
import { repositoryKeys, repositoryOf } from './config/repository.ts'
import { repositoryAccess } from './repository-access.ts'

const PIN = `SHA256:${'A'.repeat(43)}`
const place = (host: string): SftpPlace => ({ kind: 'sftp', user: undefined, host, port: 22, root: '/vms' })

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'vcb-home-'))
})
afterEach(() => rm(home, { recursive: true, force: true }))

const access = (text: string, environment: Record<string, string> = {}) =>
  repositoryAccess(
    readSection(
      { ...repositoriesKeys, ...repositoryKeys },
      (file, given) => {
        const general = repositoryOf(file, given)
        return { ...general, ...repositoriesOf(file, given, general) }
      },
      text,
      { environment },
    ),
    { username: 'operator', home, environment },
  )

it('logs in as the entry says whose place it is, else as the general section', async () => {
  const text = `
    repository: { url: /local, ssh: { passwordEnv: GENERAL, knownHosts: ${home}/hosts } }
    repositories:
      nas: { url: "sftp://nas//vms/", ssh: { passwordEnv: NAS, hostKey: "${PIN}" } }`
  await writeFile(join(home, 'hosts'), 'other ssh-ed25519 AAAA\n')
  const of = access(text, { NAS: 'hush', GENERAL: 'quiet' })
  const nas = of.sshHost(place('nas'))
  expect(nas).toMatchObject({ name: 'nas', address: 'nas', port: 22, user: 'operator', pinnedIn: 'repositories.nas.ssh' })
  expect(await nas.pin()).toEqual({ fingerprints: [PIN] })
  const login = await nas.login()
  expect('password' in login && login.password.reveal()).toBe('hush')
  const other = of.sshHost(place('other'))
  expect(other.pinnedIn).toBe('repository.ssh')
  expect(await other.pin()).toEqual({ knownHosts: { path: join(home, 'hosts'), text: 'other ssh-ed25519 AAAA\n' } })
  const general = await other.login()
  expect('password' in general && general.password.reveal()).toBe('quiet')
})

it('where nothing is said, uses what ssh would: the user’s own key and known_hosts', async () => {
  await mkdir(join(home, '.ssh'))
  await writeFile(join(home, '.ssh', 'id_ecdsa'), 'a key')
  await writeFile(join(home, '.ssh', 'known_hosts'), 'nas ssh-ed25519 AAAA\n')
  const nas = access('').sshHost(place('nas'))
  expect(await nas.login()).toMatchObject({ key: { path: join(home, '.ssh', 'id_ecdsa') } })
  expect(await nas.pin()).toMatchObject({ knownHosts: { path: join(home, '.ssh', 'known_hosts') } })
})

it('says where a login belongs when there is none', async () => {
  const nas = access('repositories: { nas: { url: "sftp:nas:/vms" } }').sshHost(place('nas'))
  await expect(nas.login()).rejects.toMatchObject({
    code: 'CONFIG',
    next: expect.stringContaining('into repositories.nas.ssh of vcb.yaml'),
  })
  // Nothing pinned: the connection shows the key and ends.
  expect(await nas.pin()).toEqual({ fingerprints: [] })
})

it('logs in to a REST server as the entry says, else as stock restic would', async () => {
  const text =
    'repositories: { far: { url: "rest:https://far/vms", rest: { user: vcb, passwordEnv: FAR, caFile: ca, thumbprint: "AB:AB" } } }'
  expect(() => access(text)).toThrow(/is not a certificate thumbprint/)
  const pin = 'ab'.repeat(32)
  await writeFile(join(home, 'ca'), 'a certificate')
  const environment = { FAR: 'hush', RESTIC_REST_USERNAME: 'of restic', RESTIC_REST_PASSWORD: 'quiet' }
  const of = access(text.replace('AB:AB', pin.toUpperCase()).replace('caFile: ca', `caFile: ${home}/ca`), environment)
  const far = { kind: 'rest', base: 'https://far/vms/', user: undefined } as const
  const other = { ...far, base: 'https://other/' }
  const login = await of.restLogin(far)
  expect([login?.user, login?.password.reveal()]).toEqual(['vcb', 'hush'])
  expect(await of.restTrust(far)).toEqual({ pin, ca: 'a certificate' })
  const theirs = await of.restLogin(other)
  expect([theirs?.user, theirs?.password.reveal()]).toEqual(['of restic', 'quiet'])
  expect(await of.restTrust(other)).toEqual({ pin: undefined, ca: undefined })
  expect(await access('').restLogin(other)).toBeUndefined()
  await expect(access('').restLogin({ ...other, user: 'vcb' })).rejects.toMatchObject({ code: 'CONFIG' })
  await expect(access('', { RESTIC_REST_PASSWORD: 'x' }).restLogin(other)).rejects.toMatchObject({ code: 'CONFIG' })
})
