import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { repositoriesKeys, repositoriesOf } from './repositories.ts'
import { repositoryKeys, repositoryOf } from './repository.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) =>
  readSection({ ...repositoriesKeys, ...repositoryKeys }, (file, given) => repositoriesOf(file, given, repositoryOf(file, given)), ...rest)
    .repositories

test('each has a name, a place and where its password is; paths begin at the file', () => {
  const text = 'repositories: { main: { url: restic:repo, passwordFile: pw }, tape: { url: "tar:/t", passwordEnv: TAPE } }'
  expect(read(text, { environment: { TAPE: 'x', VCB_REPO_PASSWORD: 'of the general one' } })).toEqual([
    { name: 'main', url: 'restic:/etc/vcb/repo', password: { file: '/etc/vcb/pw' } },
    { name: 'tape', url: 'tar:/t', password: { env: 'TAPE', value: 'x' } },
  ])
})

test('the general one is called default, unless one of the others is', () => {
  expect(read('repository: { url: repo, passwordFile: pw }')).toEqual([
    { name: 'default', url: '/etc/vcb/repo', password: { file: '/etc/vcb/pw' } },
  ])
  expect(read('', { flags: { repo: '/r' } })[0]).toMatchObject({ name: 'default', url: '/r' })
  const both = 'repository: { url: /one }\nrepositories: { default: { url: /two } }'
  expect(read(both).map(({ name, url }) => [name, url])).toEqual([['default', '/two']])
  expect(read()).toEqual([])
})

test('a place of a kind there is not is refused', () => {
  expect(() => read('repositories: { a: { url: "pigeon:/x" } }')).toThrow(/has an unknown kind/)
  expect(() => read('repositories: { a: { url: "" } }')).toThrow(/names no path/)
})

test('a name is safe in files and messages', () => {
  expect(() => read('repositories: { "../x": { url: a } }')).toThrow(/Invalid key/)
})
