import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { main } from './main.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-token-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

async function vcb(...argv: string[]): Promise<{ status: number; out: string; err: string }> {
  const said = { out: '', err: '' }
  const status = await main([...argv, '--state-dir', directory], {
    environment: {},
    out: (text) => void (said.out += text),
    err: (text) => void (said.err += text),
    interactive: false,
    signal: new AbortController().signal,
  })
  return { status, ...said }
}

test('a token is shown once, kept as a hash, listed, and revoked; each stands in the audit log', async () => {
  const added = await vcb('token', 'add', 'prometheus', '--role', 'viewer', '--expires', '90d')
  expect(added).toMatchObject({ status: 0, out: expect.stringMatching(/^vcb_prometheus_[\w-]{43}\n$/) })
  const secret = added.out.trim().slice(-43)
  const kept = await readdir(join(directory, 'api-tokens'))
  expect(kept).toEqual(['prometheus.json'])
  const path = join(directory, 'api-tokens', 'prometheus.json')
  expect((await stat(path)).mode & 0o777).toBe(0o600)
  for (const file of [path, join(directory, 'audit.jsonl')]) {
    const text = await readFile(file, 'utf8')
    expect(text).not.toContain(secret)
    expect(text).not.toContain(Buffer.from(secret, 'base64url').toString('hex'))
  }
  expect(await vcb('token', 'add', 'prometheus', '--role', 'admin')).toMatchObject({
    status: 6,
    err: expect.stringContaining('There is a token named prometheus already.'),
  })
  expect((await vcb('token', 'list')).out).toMatch(/prometheus +viewer .* never/)
  expect((await vcb('token', 'list', '--json')).out).not.toContain('hash')
  expect((await vcb('token', 'revoke', 'prometheus')).status).toBe(0)
  expect(await vcb('token', 'revoke', 'prometheus')).toMatchObject({
    status: 5,
    err: expect.stringContaining('There is no token named prometheus.'),
  })
  expect((await vcb('token', 'list')).out).toBe('There is no token.\n')
  const audit = await vcb('audit', '--since', '1d')
  expect(audit.out.split('\n').map((line) => line.replace(/^.*command +/, '').replace(/ +/g, ' '))).toEqual([
    expect.stringContaining('ACTION'),
    'token add {"name":"prometheus","role":"viewer"} done',
    expect.stringMatching(/^token add .* failed CONFLICT/),
    'token revoke {"name":"prometheus"} done',
    expect.stringMatching(/^token revoke .* failed NOT_FOUND/),
    '',
  ])
  expect((JSON.parse((await vcb('audit', '--by', 'nobody', '--json')).out) as { entries: unknown[] }).entries).toEqual([])
})

test.each([
  ['a name that leads elsewhere', ['../x', '--role', 'viewer'], 'cannot be the name of a token'],
  ['a role there is not', ['x', '--role', 'root'], 'Allowed choices are viewer, operator, admin'],
  ['an expiry that is past', ['x', '--role', 'viewer', '--expires', '2020-01-01'], 'would have expired already'],
])('%s is refused', async (_what, argv, says) => {
  const { status, err } = await vcb('token', 'add', ...argv)
  expect(status).toBe(2)
  expect(err).toContain(says)
  await expect(readdir(join(directory, 'api-tokens'))).rejects.toThrow('ENOENT')
})
