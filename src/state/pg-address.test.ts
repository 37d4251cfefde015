import { describe, expect, it, test } from 'vitest'
import { isLocal, parsePgAddress } from './pg-address.ts'

describe('the URL of a state database', () => {
  it('names a server or a Unix socket, and is shown without a password', () => {
    expect(parsePgAddress('postgres://vcb@db.example.com/backup')).toEqual({
      host: 'db.example.com',
      port: 5432,
      user: 'vcb',
      database: 'backup',
      shown: 'postgres://vcb@db.example.com:5432/backup',
    })
    expect(parsePgAddress('postgresql://v%20cb@[::1]:5433/b?sslmode=verify-full')).toMatchObject({ host: '::1', port: 5433, user: 'v cb' })
    const local = parsePgAddress('postgres:///vcb?host=/run/postgresql&user=vcb&port=5433')
    expect(local).toMatchObject({ host: '/run/postgresql', port: 5433, user: 'vcb', database: 'vcb' })
    expect(local.shown).toBe('postgres:///vcb?host=/run/postgresql&port=5433&user=vcb')
    expect([isLocal(local), isLocal(parsePgAddress('postgres://a@b/c'))]).toEqual([true, false])
    expect(parsePgAddress(local.shown)).toEqual(local)
  })

  test.each([
    ['nothing', '', 'is no URL'],
    ['another protocol', 'mysql://vcb@db/vcb', 'begins with "mysql:"'],
    ['a password', 'postgres://vcb:hunter2@db/vcb', 'holds a password'],
    ['a password as parameter', 'postgres://vcb@db/vcb?password=hunter2', 'holds a password'],
    ['less than verified TLS', 'postgres://vcb@db/vcb?sslmode=require', 'asks for sslmode=require'],
    ['what we do not know', 'postgres://vcb@db/vcb?options=-c', 'has the unknown parameter "options"'],
    ['no user', 'postgres://db/vcb', 'names no user'],
    ['no database', 'postgres://vcb@db', 'names no database'],
    ['no host', 'postgres:///vcb?user=vcb', 'names no host'],
    ['no port', 'postgres:///vcb?user=vcb&host=/run&port=x', 'has a port that is none'],
  ])('with %s is refused', (_, url, why) => {
    expect(() => parsePgAddress(url)).toThrow(expect.objectContaining({ code: 'CONFIG', message: expect.stringContaining(why) }))
    expect(() => parsePgAddress(url)).not.toThrow(/hunter2/)
  })
})
