import { mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MIGRATIONS } from './migrations.ts'
import { openState } from './state.ts'

let directory: string
let path: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-state-'))
  path = join(directory, 'deep', 'state.db')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

describe('openState', () => {
  it('makes a private file, and finds in it what was written', async () => {
    {
      await using state = await openState(path)
      const put = state.statement<[string, string]>(`INSERT INTO job (id, kind, args, begun_at, sequence) VALUES (?, ?, '{}', '', 1)`)
      expect(state.transaction('test', () => put.run('j1', 'backup'))).toBe(1)
    }
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    await using again = await openState(path)
    const get = again.statement<[string], { kind: string; args: unknown; lease: string | undefined }>(
      'SELECT * FROM job WHERE id = ?',
      (row) => ({ kind: row.text('kind'), args: row.json('args'), lease: row.optionalText('lease_until') }),
    )
    expect(get.get('j1')).toEqual({ kind: 'backup', args: {}, lease: undefined })
    expect(get.get('none')).toBeUndefined()
  })

  it('uses WAL with full synchronisation', async () => {
    await using state = await openState(path)
    const mode = state.statement<[], string>('PRAGMA journal_mode', (row) => row.text('journal_mode'))
    const sync = state.statement<[], number>('PRAGMA synchronous', (row) => row.integer('synchronous'))
    expect([mode.get(), sync.get()]).toEqual(['wal', 2])
  })

  it('waits for the disk in a transaction, and not in a note, also after one that failed', async () => {
    await using state = await openState(path)
    const sync = state.statement<[], number>('PRAGMA synchronous', (row) => row.integer('synchronous'))
    const inside = (): number | undefined => sync.get()
    const fails = (): never => {
      throw new TypeError('no')
    }
    expect([state.transaction('test', inside), state.note('test', inside)]).toEqual([2, 1])
    expect(() => state.note('test', fails)).toThrow(TypeError)
    expect(state.transaction('test', inside)).toBe(2)
  })

  it('refuses a file of a newer vcb', async () => {
    await (await openState(path))[Symbol.asyncDispose]()
    const raw = new DatabaseSync(path)
    raw.exec(`PRAGMA user_version = ${MIGRATIONS.length + 1}`)
    raw.close()
    await expect(openState(path)).rejects.toMatchObject({ code: 'CONFIG', message: expect.stringContaining('version') })
  })

  it('refuses the database of another program, and leaves it as it is', async () => {
    const foreign = join(directory, 'foreign.db')
    const raw = new DatabaseSync(foreign)
    raw.exec('CREATE TABLE theirs (x)')
    raw.close()
    await expect(openState(foreign)).rejects.toMatchObject({ code: 'INTEGRITY', next: expect.stringContaining('vcb recover') })
    const after = new DatabaseSync(foreign)
    expect(after.prepare('SELECT name FROM sqlite_schema').all()).toMatchObject([{ name: 'theirs' }])
    after.close()
  })

  it('refuses rubbish and a damaged file in one sentence', async () => {
    const rubbish = join(directory, 'rubbish.db')
    await writeFile(rubbish, Buffer.alloc(8192, 'not a database'))
    await expect(openState(rubbish)).rejects.toMatchObject({ code: 'INTEGRITY', subject: rubbish })
    {
      await using state = await openState(path)
      const put = state.statement<[string, number]>(`INSERT INTO job (id, kind, args, begun_at, sequence) VALUES (?, 'x', '{}', '', ?)`)
      state.transaction('test', () => {
        for (let index = 0; index < 500; index++) put.run(`job-${index}-${'x'.repeat(100)}`, index)
      })
    }
    const raw = new DatabaseSync(path)
    const pages = Number(raw.prepare('PRAGMA page_count').get()?.['page_count'])
    raw.close()
    await using file = await open(path, 'r+')
    await file.write(Buffer.alloc(4096 * Math.floor(pages / 2), 0xa5), 0, undefined, 4096 * Math.floor(pages / 3))
    await expect(openState(path)).rejects.toMatchObject({ code: 'INTEGRITY' })
  })

  it('says CONFLICT when another process holds the file too long', async () => {
    await using state = await openState(path, { busyTimeoutMs: 50 })
    const other = new DatabaseSync(path)
    other.exec('BEGIN IMMEDIATE')
    expect(() => state.transaction('test', () => 1)).toThrow(expect.objectContaining({ code: 'CONFLICT', retry: 'later' }))
    other.exec('ROLLBACK')
    other.close()
    expect(state.transaction('test', () => 1)).toBe(1)
  })

  it('rolls a failed transaction back', async () => {
    await using state = await openState(path)
    const put = state.statement<[string]>(`INSERT INTO job (id, kind, args, begun_at, sequence) VALUES (?, 'x', '{}', '', 1)`)
    const count = state.statement<[], number>('SELECT count(*) AS n FROM job', (row) => row.integer('n'))
    const failing = (): void =>
      state.transaction('test', () => {
        put.run('a')
        throw new Error('no')
      })
    expect(failing).toThrow('no')
    expect(count.get()).toBe(0)
  })

  it('refuses a change outside a transaction, which would be no effect', async () => {
    await using state = await openState(path)
    const put = state.statement<[string]>(`INSERT INTO job (id, kind, args, begun_at, sequence) VALUES (?, 'x', '{}', '', 1)`)
    const outside = expect.objectContaining({ code: 'INTERNAL' })
    expect(() => put.run('a')).toThrow(outside)
    expect(() => state.reading(() => put.run('a'))).toThrow(outside)
    expect(state.transaction('test', () => put.run('a'))).toBe(1)
    expect(() => put.run('b')).toThrow(outside)
  })

  it('checks the type of every column it reads', async () => {
    await using state = await openState(path)
    const wrong = state.statement<[], number>(`SELECT 'text' AS n`, (row) => row.integer('n'))
    expect(() => wrong.get()).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
    const json = state.statement<[], unknown>(`SELECT '{' AS n`, (row) => row.json('n'))
    expect(() => json.get()).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
  })
})
