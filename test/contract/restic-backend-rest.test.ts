import { execFile } from 'node:child_process'
import { randomBytes, X509Certificate } from 'node:crypto'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Secret } from '../../src/core/index.ts'
import { CONFIG_FILE } from '../../src/restic/index.ts'
import { startHttpFaults } from '../http-faults.ts'
import { describePeers } from '../peer.ts'
import { restPlace } from '../rest-place.ts'
import { type RestServer, startRestServer } from '../rest-server.ts'
import { backendContract } from './restic-backend.ts'

const run = promisify(execFile)
const newName = (): string => randomBytes(32).toString('hex')

describePeers(['rclone', 'openssl'], 'a repository on a REST server', ({ rclone, openssl }) => {
  let server: RestServer
  let origin: string
  beforeAll(async () => {
    server = await startRestServer(rclone)
    origin = `http://127.0.0.1:${server.port}`
  })
  afterAll(() => server?.[Symbol.asyncDispose]())

  backendContract('on a REST server', async () => {
    const backend = restPlace(origin)
    return { backend, [Symbol.asyncDispose]: () => backend[Symbol.asyncDispose]() }
  })

  it('large files travel whole, into the memory that is given', async () => {
    await using backend = restPlace(origin, { name: 'large' })
    const file = { kind: 'data', name: newName() } as const
    // As the pack writer has it: memory that threads share.
    const data = Buffer.from(new SharedArrayBuffer(17 * 1024 * 1024 + 13))
    randomBytes(data.length).copy(data)
    await backend.save(file, data)
    const into = Buffer.alloc(20 * 1024 * 1024)
    const loaded = await backend.load(file, { into })
    expect(loaded.buffer).toBe(into.buffer)
    expect(Buffer.compare(loaded, data)).toBe(0)
    const stored = await readFile(join(server.directory, 'served', 'large', 'data', file.name.slice(0, 2), file.name))
    expect(Buffer.compare(stored, data)).toBe(0)
  })

  it('a repository that was not finished goes, a complete one stays', async () => {
    await using backend = restPlace(origin)
    const key = newName()
    await backend.save({ kind: 'key', name: key }, Buffer.from('key'))
    await backend.removeUnfinished(key)
    await backend.removeUnfinished(key)
    expect(await Array.fromAsync(backend.list('key'))).toEqual([])
    await backend.save({ kind: 'key', name: key }, Buffer.from('key'))
    await backend.save(CONFIG_FILE, Buffer.from('config'))
    await backend.removeUnfinished(key)
    expect(await Array.fromAsync(backend.list('key'))).toHaveLength(1)
  })

  describe('in append-only mode', () => {
    let appending: RestServer
    beforeAll(async () => {
      appending = await startRestServer(rclone, ['--append-only'])
    })
    afterAll(() => appending?.[Symbol.asyncDispose]())

    it('saves and gives back, removes locks, and refuses the rest, asked once', async () => {
      await using seen = await startHttpFaults(appending.port, () => 'none')
      await using backend = restPlace(seen.origin, { name: 'kept' })
      const [one, other] = [newName(), newName()]
      for (const name of [one, other]) await backend.save({ kind: 'snapshot', name }, Buffer.from(name))
      await backend.save({ kind: 'lock', name: one }, Buffer.from('lock'))
      await backend.remove({ kind: 'lock', name: one })
      expect(await Array.fromAsync(backend.list('lock'))).toEqual([])
      const refused = { code: 'CONFLICT', retry: 'never', message: expect.stringContaining('is append-only') }
      await expect(backend.remove({ kind: 'snapshot', name: one })).rejects.toMatchObject(refused)
      const removals = () => seen.requests.filter((each) => each.startsWith('DELETE /kept/snapshots/'))
      expect(removals()).toHaveLength(1)
      await expect(backend.remove({ kind: 'snapshot', name: other })).rejects.toMatchObject(refused)
      expect(removals()).toHaveLength(1)
      expect(await Array.fromAsync(backend.list('snapshot'))).toHaveLength(2)
      expect((await backend.load({ kind: 'snapshot', name: other })).toString()).toBe(other)
    })

    it('what was saved already is saved, other content under a name is refused', async () => {
      await using backend = restPlace(`http://127.0.0.1:${appending.port}`, { name: 'again' })
      const file = { kind: 'data', name: newName() } as const
      await backend.save(file, Buffer.from('the same'))
      await backend.save(file, Buffer.from('the same'))
      await expect(backend.save(file, Buffer.from('something else'))).rejects.toMatchObject({ code: 'CONFLICT' })
      expect((await backend.load(file)).toString()).toBe('the same')
    })

    it('a repository that was not finished stays, and is told of', async () => {
      await using backend = restPlace(`http://127.0.0.1:${appending.port}`, { name: 'unfinished' })
      const key = newName()
      await backend.save({ kind: 'key', name: key }, Buffer.from('key'))
      await backend.removeUnfinished(key)
      expect(await Array.fromAsync(backend.list('key'))).toHaveLength(1)
    })
  })

  describe('with a login, over TLS', () => {
    const password = 'hush: ü'
    let closed: RestServer
    let pem: string
    beforeAll(async () => {
      const [key, certificate] = [join(server.directory, 'key.pem'), join(server.directory, 'cert.pem')]
      const args = [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-keyout',
        key,
        '-out',
        certificate,
      ]
      await run(openssl, [...args, '-days', '2', '-subj', '/CN=rest', '-addext', 'subjectAltName=IP:127.0.0.1'])
      pem = await readFile(certificate, 'utf8')
      closed = await startRestServer(rclone, ['--user', 'vcb', '--pass', password, '--cert', certificate, '--key', key])
    })
    afterAll(() => closed?.[Symbol.asyncDispose]())
    const login = async () => ({ user: 'vcb', password: new Secret(password) })

    it('the certificate is known by its authority or its thumbprint', async () => {
      const at = `https://127.0.0.1:${closed.port}`
      const shown = new X509Certificate(pem)
      const pins = [shown.fingerprint, shown.fingerprint256].map((pin) => pin.replaceAll(':', '').toLowerCase())
      for (const trust of [{ ca: pem }, ...pins.map((pin) => ({ pin }))]) {
        await using backend = restPlace(at, { login, trust: async () => trust })
        await backend.save({ kind: 'lock', name: newName() }, Buffer.from('x'))
      }
      await using stranger = restPlace(at, { login })
      await expect(stranger.stat(CONFIG_FILE)).rejects.toMatchObject({
        code: 'AUTH',
        message: expect.stringContaining(shown.fingerprint256),
      })
      await using changed = restPlace(at, { login, trust: async () => ({ pin: '0'.repeat(64) }) })
      await expect(changed.stat(CONFIG_FILE)).rejects.toMatchObject({
        code: 'AUTH',
        message: expect.stringContaining('changed: pinned 000'),
      })
    })

    it('a wrong login is told, and not tried again', async () => {
      const trust = async () => ({ ca: pem })
      const at = `https://127.0.0.1:${closed.port}`
      await using wrong = restPlace(at, { trust, login: async () => ({ user: 'vcb', password: new Secret('wrong') }) })
      await expect(wrong.stat(CONFIG_FILE)).rejects.toMatchObject({ code: 'AUTH', message: expect.not.stringContaining('wrong') })
      await using none = restPlace(at, { trust })
      await expect(Array.fromAsync(none.list('key'))).rejects.toMatchObject({ code: 'AUTH' })
    })

    it('no password goes over a line that others can read, and plain HTTP is no TLS', async () => {
      await using clear = restPlace('http://192.0.2.1:8000', { login })
      await expect(clear.stat(CONFIG_FILE)).rejects.toMatchObject({
        code: 'CONFIG',
        message: expect.stringContaining('never sent in clear'),
      })
      await using mistaken = restPlace(`https://127.0.0.1:${server.port}`)
      await expect(mistaken.stat(CONFIG_FILE)).rejects.toMatchObject({
        code: 'CONFIG',
        message: expect.stringContaining('does not speak TLS'),
      })
    })
  })

  it('files of others are in no list', async () => {
    await using backend = restPlace(origin, { name: 'others' })
    const name = newName()
    await backend.save({ kind: 'index', name }, randomBytes(10))
    const folder = join(server.directory, 'served', 'others', 'index')
    await writeFile(join(folder, 'README'), 'x')
    await mkdir(join(folder, newName()))
    expect(await Array.fromAsync(backend.list('index'))).toEqual([{ name, size: 10 }])
    expect((await readdir(folder)).length).toBe(3)
    expect((await stat(join(folder, name))).size).toBe(10)
  })
})
