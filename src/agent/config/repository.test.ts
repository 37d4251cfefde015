import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { repositoryKeys, repositoryOf } from './repository.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) =>
  readSection(repositoryKeys, repositoryOf, ...rest).repository

test.each([
  ['repo', '/etc/vcb/repo'],
  ['restic:repo', 'restic:/etc/vcb/repo'],
  ['dir:/exports', 'dir:/exports'],
  ['tar:-', 'tar:-'],
  ['x:repo', '/etc/vcb/x:repo'],
  ['borg:host:backup', 'borg:host:backup'],
  ['command:store --to here', 'command:store --to here'],
  ['s3:https://host/bucket', 's3:https://host/bucket'],
  ['restic:rest:https://host/repo', 'restic:rest:https://host/repo'],
])('%s of the file is %s: a directory is relative to the file, anything else is not', (url, wanted) => {
  expect(read(`repository: { url: "${url}" }`).url).toBe(wanted)
})

test('flags and environment are taken as they stand', () => {
  expect(read('repository: { url: a, passwordFile: pw }', { environment: { VCB_REPO: 'b' } })).toEqual({
    url: 'b',
    password: { file: '/etc/vcb/pw' },
  })
  expect(read('', { flags: { repo: 'c', repoPasswordFile: 'p' } })).toEqual({ url: 'c', password: { file: 'p' } })
})
