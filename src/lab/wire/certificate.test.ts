import { X509Certificate } from 'node:crypto'
import { mkdtemp, rm, stat, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadCertificate } from './certificate.ts'

describe('the lab’s certificate', () => {
  let directory: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lab-certificate-'))
  })
  afterEach(async () => rm(directory, { recursive: true, force: true }))
  const now = new Date('2026-11-22T00:00:00Z')

  it('is self-signed, for this machine, and the same at the next start', async () => {
    const made = await loadCertificate(directory, 'vcenter.lab', now)
    const certificate = new X509Certificate(made.certificate)
    expect(certificate.verify(certificate.publicKey)).toBe(true)
    expect(certificate.ca).toBe(true)
    expect(certificate.checkHost('localhost')).toBe('localhost')
    expect(certificate.checkHost('vcenter.lab')).toBe('vcenter.lab')
    expect(certificate.checkIP('127.0.0.1')).toBe('127.0.0.1')
    expect(certificate.checkIP('::1')).toBeDefined()
    expect(certificate.subject).toBe('O=vcb lab\nCN=vcenter.lab')
    expect(certificate.validFromDate.getTime()).toBe(now.getTime() - 86_400_000)
    expect(certificate.validToDate.getTime()).toBe(now.getTime() + 3650 * 86_400_000)
    expect(made.thumbprints).toEqual({ sha1: certificate.fingerprint, sha256: certificate.fingerprint256 })
    expect((await stat(join(directory, 'server.key'))).mode & 0o777).toBe(0o600)
    expect(await loadCertificate(directory, 'other', now)).toEqual(made)
  })

  it('is refused when half of it is missing or it is damaged', async () => {
    await loadCertificate(directory, 'vcenter.lab', now)
    await writeFile(join(directory, 'server.pem'), 'rubbish')
    await expect(loadCertificate(directory, 'vcenter.lab', now)).rejects.toMatchObject({ code: 'CONFIG' })
    await unlink(join(directory, 'server.pem'))
    await expect(loadCertificate(directory, 'vcenter.lab', now)).rejects.toMatchObject({ code: 'CONFIG' })
  })
})
