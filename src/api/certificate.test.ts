import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { MemoryControl } from '../../test/api-world.ts'
import { silentLog, systemClock } from '../core/index.ts'
import { loadCertificate } from '../lab/wire/certificate.ts'
import { openApi } from './api.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-cert-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

type Shown = { readonly fingerprint: string | undefined; readonly protocol: string | null }

const shown = (port: number, maxVersion: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3', ca: string): Promise<Shown> =>
  new Promise((resolve, reject) => {
    const minVersion = maxVersion === 'TLSv1.1' ? 'TLSv1' : 'TLSv1.2'
    const socket: TLSSocket = connect(
      { port, host: '127.0.0.1', servername: 'localhost', minVersion, maxVersion, ca, ciphers: 'DEFAULT@SECLEVEL=0' },
      () => {
        resolve({ fingerprint: socket.getPeerX509Certificate()?.fingerprint256, protocol: socket.getProtocol() })
        socket.destroy()
      },
    )
    socket.on('error', reject)
  })

test('a renewed certificate is taken up, files that do not fit are not, and old TLS is refused', async () => {
  const [first, second] = await Promise.all(['one', 'two'].map((name) => loadCertificate(join(directory, name), name, systemClock.now())))
  if (first === undefined || second === undefined) throw new Error('no certificates')
  const tls = { certificate: join(directory, 'live.pem'), key: join(directory, 'live.key') }
  const put = async (certificate: string, key: string): Promise<void> => {
    await copyFile(join(directory, certificate, 'server.pem'), tls.certificate)
    await copyFile(join(directory, key, 'server.key'), tls.key)
  }
  await put('one', 'one')
  await using api = await openApi({
    control: new MemoryControl(),
    directory,
    socket: undefined,
    tcp: { host: '127.0.0.1', port: 0, tls },
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    version: '0.1.0',
  })
  const port = api.port ?? 0
  expect(await shown(port, 'TLSv1.3', first.certificate)).toEqual({ fingerprint: first.thumbprints.sha256, protocol: 'TLSv1.3' })
  expect((await shown(port, 'TLSv1.2', first.certificate)).protocol).toBe('TLSv1.2')
  await expect(shown(port, 'TLSv1.1', first.certificate)).rejects.toThrow(/protocol|alert|version/i)
  await put('two', 'one')
  await expect(api.reload()).rejects.toThrow('are not a certificate and its key')
  await writeFile(tls.key, 'nonsense')
  await expect(api.reload()).rejects.toThrow('are not a certificate and its key')
  expect((await shown(port, 'TLSv1.3', first.certificate)).fingerprint).toBe(first.thumbprints.sha256)
  await put('two', 'two')
  await api.reload()
  expect((await shown(port, 'TLSv1.3', second.certificate)).fingerprint).toBe(second.thumbprints.sha256)
})
