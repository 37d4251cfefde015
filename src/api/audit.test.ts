import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { silentLog, systemClock } from '../core/index.ts'
import { type AuditEntry, AuditLog, readAudit } from './audit.ts'
import { carryOut } from './order.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-audit-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const entry = (id: string, outcome: AuditEntry['outcome'] = 'done'): Omit<AuditEntry, 'at'> => ({
  id,
  by: 'ci',
  via: '::1',
  action: 'run',
  outcome,
})
const ids = async (): Promise<readonly string[]> => (await readAudit(directory, {})).entries.map(({ id }) => id)

test('entries of many at once are all there, once, in files that only the user reads', async () => {
  await using log = new AuditLog({ directory, clock: systemClock })
  await Promise.all(Array.from({ length: 200 }, (_, index) => log.write(entry(String(index), index % 2 === 0 ? 'done' : 'refused'))))
  expect(new Set(await ids()).size).toBe(200)
  expect((await readFile(join(directory, 'audit-refused.jsonl'), 'utf8')).split('\n')).toHaveLength(101)
  for (const file of await readdir(directory)) expect((await stat(join(directory, file))).mode & 0o777).toBe(0o600)
})

test('a full file is put aside, and the oldest of too many is gone', async () => {
  await using log = new AuditLog({ directory, clock: systemClock, mostBytes: 300 })
  for (let index = 0; index < 60; index++) await log.write(entry(String(index)))
  const files = await readdir(directory)
  expect(files).toHaveLength(13)
  const kept = (await ids()).map(Number)
  expect(kept.at(-1)).toBe(59)
  expect(kept).toEqual(Array.from({ length: kept.length }, (_, index) => 60 - kept.length + index))
  for (const file of files) expect((await stat(join(directory, file))).size).toBeLessThan(600)
})

test('a line that a crash tore is left out and counted, and the next one stands on its own', async () => {
  {
    await using log = new AuditLog({ directory, clock: systemClock })
    await log.write(entry('1'))
  }
  await appendFile(join(directory, 'audit.jsonl'), '{"at":"2026-11-2')
  await using log = new AuditLog({ directory, clock: systemClock })
  await log.write(entry('2'))
  expect(await readAudit(directory, {})).toMatchObject({ damaged: 1, entries: [{ id: '1' }, { id: '2' }] })
})

test('what a caller sent is cut, and the line stays one', async () => {
  await using log = new AuditLog({ directory, clock: systemClock })
  await log.write({ ...entry('1'), target: { select: Array.from({ length: 100 }, () => 'ü'.repeat(500)) }, message: 'm\n'.repeat(9000) })
  const text = await readFile(join(directory, 'audit.jsonl'), 'utf8')
  expect(text.split('\n')).toHaveLength(2)
  expect(text.length).toBeLessThan(20_000)
  expect(await ids()).toEqual(['1'])
})

test('an order that cannot be written down is not carried out', async () => {
  // A directory where the file should be.
  await mkdir(join(directory, 'audit.jsonl'))
  await using audit = new AuditLog({ directory, clock: systemClock })
  let done = false
  const order = { id: '1', action: 'drain', target: undefined, caller: { name: 'ci', role: 'admin', via: '::1' } } as const
  const work = (): Promise<void> => {
    done = true
    return Promise.resolve()
  }
  await expect(carryOut({ audit, log: silentLog }, order, work)).rejects.toThrow('EISDIR')
  expect(done).toBe(false)
})
