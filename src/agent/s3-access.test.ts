import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readSection } from '../../test/config-section.ts'
import type { S3Access, S3Place } from '../provider/index.ts'
import { repositoriesKeys, repositoriesOf } from './config/repositories.ts'
import { repositoryKeys, repositoryOf } from './config/repository.ts'
import { repositoryAccess } from './repository-access.ts'

const PLACE: S3Place = { kind: 's3', endpoint: 'https://s3.example', bucket: 'backups', prefix: 'vms' }
const AWS = { AWS_ACCESS_KEY_ID: 'AKENV', AWS_SECRET_ACCESS_KEY: 'env secret' }

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'vcb-home-'))
})
afterEach(() => rm(home, { recursive: true, force: true }))

const access = (s3: string, environment: Record<string, string> = {}, place = PLACE): S3Access => {
  const text = s3 === '' ? '' : `repositories: { cloud: { url: "s3:s3.example/backups/vms/", s3: ${s3} } }`
  const config = readSection(
    { ...repositoriesKeys, ...repositoryKeys },
    (file, given) => {
      const general = repositoryOf(file, given)
      return { ...general, ...repositoriesOf(file, given, general) }
    },
    text,
    { environment },
  )
  return repositoryAccess(config, { username: 'operator', home, environment }).s3(place)
}
const pair = async (from: S3Access): Promise<readonly (string | undefined)[]> => {
  const { accessKeyId, secretAccessKey, sessionToken } = await from.credentials()
  return [accessKeyId, secretAccessKey.reveal(), sessionToken?.reveal()]
}

describe('the key pair of a bucket', () => {
  it('is that of the entry whose place it is, before the environment', async () => {
    await writeFile(join(home, 'secret'), 'file secret\n')
    const written = `{ accessKeyId: AKFILE, secretAccessKeyFile: ${home}/secret, sessionTokenEnv: TOKEN }`
    expect(await pair(access(written, { ...AWS, TOKEN: 'lent' }))).toEqual(['AKFILE', 'file secret', 'lent'])
    expect(await pair(access(written, AWS, { ...PLACE, bucket: 'other' }))).toEqual(['AKENV', 'env secret', undefined])
  })

  it('is that of the environment, with its token, before the profile', async () => {
    expect(await pair(access('', { ...AWS, AWS_SESSION_TOKEN: 'lent' }))).toEqual(['AKENV', 'env secret', 'lent'])
    await mkdir(join(home, '.aws'))
    await writeFile(
      join(home, '.aws', 'credentials'),
      '[default]\naws_access_key_id=AKDEF\naws_secret_access_key=s\n[work]\naws_access_key_id=AKWORK\naws_secret_access_key=w\n',
    )
    expect(await pair(access('', AWS))).toEqual(['AKENV', 'env secret', undefined])
    expect(await pair(access(''))).toEqual(['AKDEF', 's', undefined])
    expect(await pair(access('', { AWS_PROFILE: 'work' }))).toEqual(['AKWORK', 'w', undefined])
    // A profile that the file names is meant, whatever stands in the environment.
    expect(await pair(access('{ profile: work }', AWS))).toEqual(['AKWORK', 'w', undefined])
  })

  it('is read anew where a file has it, so that renewed keys are heard', async () => {
    const path = join(home, 'creds')
    const of = access('{ region: eu-west-1 }', { AWS_SHARED_CREDENTIALS_FILE: path })
    for (const key of ['AKONE', 'AKTWO']) {
      await writeFile(path, `[default]\naws_access_key_id=${key}\naws_secret_access_key=s\n`)
      expect((await of.credentials()).accessKeyId).toBe(key)
    }
  })

  it('that is nowhere is told, with where it belongs', async () => {
    await expect(access('{ region: eu-west-1 }').credentials()).rejects.toMatchObject({
      code: 'CONFIG',
      message: 'There is no key pair for https://s3.example/backups.',
      next: expect.stringContaining('into repositories.cloud.s3 of vcb.yaml'),
    })
    await expect(access(`{ credentialsFile: ${home}/none }`).credentials()).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})

describe('the settings of a bucket', () => {
  it('the region is of the entry, of the host’s name, of the environment, or the first', () => {
    const aws = { ...PLACE, endpoint: 'https://s3.eu-central-1.amazonaws.com' }
    expect(access('{ region: eu-west-1 }', { AWS_REGION: 'x' }).region).toBe('eu-west-1')
    expect(access('', { AWS_REGION: 'x' }, aws).region).toBe('eu-central-1')
    expect(access('', { AWS_DEFAULT_REGION: 'y' }).region).toBe('y')
    expect(access('').region).toBe('us-east-1')
  })

  it('lock, class, lookup and authority come as they are written', async () => {
    await writeFile(join(home, 'ca.pem'), 'PEM')
    const of = access(
      `{ bucketLookup: dns, storageClass: STANDARD_IA, objectLock: { mode: compliance, days: 30 }, caFile: ${home}/ca.pem }`,
    )
    expect(of).toMatchObject({ lookup: 'dns', storageClass: 'STANDARD_IA', objectLock: { mode: 'compliance', days: 30 } })
    expect(await of.ca?.()).toBe('PEM')
  })

  it.each([
    ['{ accessKeyId: AK }', /accessKeyId belongs with/],
    ['{ secretAccessKeyFile: f }', /accessKeyId belongs with/],
    ['{ accessKeyId: AK, secretAccessKeyFile: f, profile: p }', /either accessKeyId or a profile/],
    ['{ region: "eu west" }', /lower-case/],
    ['{ storageClass: cold }', /capital letters/],
    ['{ objectLock: { mode: governance, days: 0 } }', /days/],
    ['{ objectLock: { mode: forever, days: 1 } }', /mode/],
    ['{ secretAccessKey: x }', /secretAccessKey/],
  ])('%s is refused', (s3, said) => {
    expect(() => access(s3)).toThrow(said)
  })
})
