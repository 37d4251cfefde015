import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseProviderUrl, sameDestination } from './provider-url.ts'
import { formatResticPlace, parseResticPlace } from './restic-place.ts'

const sftp = (more: object) => ({ kind: 'sftp', user: 'vcb', host: 'nas', port: 22, root: '/backup', ...more })

describe('a place on an SFTP server', () => {
  it.each([
    ['sftp:vcb@nas:/backup', sftp({})],
    ['sftp:nas:backup/vms', sftp({ user: undefined, root: 'backup/vms' })],
    ['sftp:vcb@example.com@nas:/backup//./vms/', sftp({ user: 'vcb@example.com', root: '/backup/vms' })],
    ['sftp://vcb@nas//backup', sftp({})],
    ['sftp://vcb@nas:2222//backup/a%20b', sftp({ port: 2222, root: '/backup/a b' })],
    ['sftp://nas/backup', sftp({ user: undefined, root: 'backup' })],
    ['sftp://vcb@[fe80::1]:2222//backup', sftp({ host: 'fe80::1', port: 2222 })],
    ['sftp:vcb@nas:/a/../../b:c', sftp({ root: '/b:c' })],
  ])('%s', (text, place) => {
    expect(parseResticPlace(text)).toEqual(place)
  })

  it.each([
    'sftp:',
    'sftp:nas',
    'sftp:vcb@:/x',
    'sftp:nas:',
    'sftp:nas:.',
    'sftp://nas',
    'sftp://nas/%',
    'sftp://nas//x?y',
    'sftp:nas:/a\0b',
  ])('refuses %j', (text) => {
    expect(() => parseResticPlace(text)).toThrow(/names no place on an SFTP server/)
  })

  it('refuses a password without repeating it, a ~, and what only restic knows', () => {
    for (const text of ['sftp://vcb:hush@nas//x', 'sftp:vcb:hush@nas:/x']) {
      expect(() => parseResticPlace(text)).toThrow(/^The address of the sftp repository holds a password\.$/)
    }
    expect(() => parseResticPlace('sftp:nas:~/x')).toThrow(/begins with ~/)
    expect(() => parseResticPlace('b2:bucket:x')).toThrow(/kind b2 are not known/)
  })

  it('shows no login of an address that is none', () => {
    for (const text of [
      'sftp://vcb:hush@nas:1:2//x',
      'sftp://vcb:hu/sh@',
      'rest:https://vcb:hu/sh@nas:x/',
      'rest:vcb:hush@nas',
      'ftp://v:hush@nas',
    ]) {
      expect(() => parseProviderUrl(text)).toThrow(expect.objectContaining({ code: 'CONFIG', message: expect.not.stringContaining('sh@') }))
    }
  })

  it('means the same again in the words it is shown in', () => {
    const name = fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9._@ +%:-]{0,12}$/u)
    const path = fc.array(fc.stringMatching(/^[a-z.: %ä@]{1,8}$/u), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(
        fc.option(name, { nil: undefined }),
        fc.constantFrom('nas', '10.0.0.1', 'fe80::1', 'nas.example.com'),
        fc.constantFrom(22, 2222),
        path,
        fc.boolean(),
        (user, host, port, names, absolute) => {
          const root = `${absolute ? '/' : ''}${names.join('/')}`
          fc.pre(names.some((each) => each !== '.') && !names.includes('..'))
          const place = parseResticPlace(formatResticPlace({ kind: 'sftp', user, host, port, root }))
          expect(parseResticPlace(formatResticPlace(place))).toEqual(place)
          expect(place).toMatchObject({ user, host, port })
        },
      ),
      { numRuns: 2000, seed: 6 },
    )
  })
})

describe('a place on a REST server', () => {
  it.each([
    ['rest:https://nas/vms', { base: 'https://nas/vms/', user: undefined }, 'rest:https://nas/vms/'],
    ['rest:http://v%40b@nas:8000//vms///', { base: 'http://nas:8000//vms/', user: 'v@b' }, 'rest:http://v%40b@nas:8000//vms/'],
    ['rest:https://NAS:443/', { base: 'https://nas/', user: undefined }, 'rest:https://nas/'],
    ['rest:https://[::1]:8000/a%20b/', { base: 'https://[::1]:8000/a%20b/', user: undefined }, 'rest:https://[::1]:8000/a%20b/'],
  ])('%s', (text, place, shown) => {
    expect(parseResticPlace(text)).toEqual({ kind: 'rest', ...place })
    expect(formatResticPlace(parseResticPlace(text))).toBe(shown)
    expect(parseResticPlace(shown)).toEqual({ kind: 'rest', ...place })
  })

  it('refuses what is no address of one, and a password without repeating it', () => {
    for (const text of ['rest:', 'rest:/vms', 'rest:ftp://nas/', 'rest:https://nas/?x', 'rest:http+unix:///x']) {
      expect(() => parseResticPlace(text)).toThrow(/names no REST server/)
    }
    expect(() => parseResticPlace('rest:https://vcb:hush@nas/x')).toThrow(/^The address of the rest repository holds a password\.$/)
    expect(() => parseResticPlace('rest:ftp://vcb:hush@nas/x')).toThrow(
      expect.not.objectContaining({ message: expect.stringContaining('hush') }),
    )
  })
})

it('stands with or without restic: before it, and is one destination however it is written', () => {
  expect(parseProviderUrl('restic:sftp:vcb@nas:/x/')).toEqual({ scheme: 'restic', path: 'sftp:vcb@nas:/x' })
  expect(sameDestination('sftp://vcb@nas//x/', 'restic:sftp:vcb@nas:/x')).toBe(true)
  expect(sameDestination('sftp:vcb@nas:x', 'sftp:vcb@nas:/x')).toBe(false)
  expect(sameDestination('/x', 'restic:/x')).toBe(true)
  expect(() => parseProviderUrl('ftp://me:hush@nas/x')).toThrow(/^The repository ftp:\/\/\*\*\*@nas\/x has an unknown kind/)
})
