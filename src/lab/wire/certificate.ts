import { createHash, generateKeyPair, randomBytes, sign, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { AgentError, ensureDirectory, isMissing, writeFileAtomic } from '../../core/index.ts'
import { bits, explicit, implicit, integer, octets, oid, sequence, set, time, truth, utf8 } from './der.ts'

/** A server's identity, PEM, with the thumbprints clients pin: upper-case hex pairs joined by colons. */
export type ServerCertificate = {
  readonly certificate: string
  readonly privateKey: string
  readonly thumbprints: { readonly sha1: string; readonly sha256: string }
}

const DAY_MS = 86_400_000
const VALID_DAYS = 3650
const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'))

/**
 * The certificate kept in `directory` (`server.pem`, `server.key`), made at the first call: self-signed, ECDSA P-256, ten years, for localhost
 * and 127.0.0.1, usable as its own CA file. Errors: CONFIG when one of the two files is damaged or alone.
 */
export async function loadCertificate(directory: string, commonName: string, now: Date): Promise<ServerCertificate> {
  const [certificatePath, keyPath] = [join(directory, 'server.pem'), join(directory, 'server.key')]
  const [certificate, privateKey] = await Promise.all([readIfThere(certificatePath), readIfThere(keyPath)])
  if (certificate === undefined && privateKey === undefined) {
    const made = await makeCertificate(commonName, now)
    await ensureDirectory(directory)
    await writeFileAtomic(keyPath, made.privateKey, 0o600)
    await writeFileAtomic(certificatePath, made.certificate, 0o644)
    return { ...made, thumbprints: thumbprints(made.certificate) }
  }
  if (certificate === undefined || privateKey === undefined) {
    throw new AgentError('CONFIG', `The lab directory ${directory} holds only one of server.pem and server.key.`, {
      next: 'Remove the one that is left; the lab makes a new certificate.',
    })
  }
  return { certificate, privateKey, thumbprints: thumbprints(certificate) }
}

async function makeCertificate(commonName: string, now: Date): Promise<{ certificate: string; privateKey: string }> {
  const { publicKey, privateKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const name = sequence(set(sequence(oid('2.5.4.10'), utf8('vcb lab'))), set(sequence(oid('2.5.4.3'), utf8(commonName))))
  const keyId = createHash('sha1').update(spki).digest()
  const serial = Buffer.concat([Buffer.from([0x40]), randomBytes(15)])
  const body = sequence(
    explicit(0, integer(Buffer.from([2]))),
    integer(serial),
    ECDSA_SHA256,
    name,
    sequence(time(new Date(now.getTime() - DAY_MS)), time(new Date(now.getTime() + VALID_DAYS * DAY_MS))),
    name,
    spki,
    explicit(
      3,
      sequence(
        sequence(oid('2.5.29.14'), octets(octets(keyId))),
        sequence(oid('2.5.29.19'), truth(), octets(sequence(truth()))),
        // digitalSignature, keyCertSign
        sequence(oid('2.5.29.15'), truth(), octets(bits(Buffer.from([0b10000100]), 2))),
        sequence(oid('2.5.29.37'), octets(sequence(oid('1.3.6.1.5.5.7.3.1')))),
        sequence(
          oid('2.5.29.17'),
          octets(
            sequence(
              implicit(2, Buffer.from('localhost')),
              implicit(2, Buffer.from(commonName)),
              implicit(7, Buffer.from([127, 0, 0, 1])),
              implicit(7, Buffer.concat([Buffer.alloc(15), Buffer.from([1])])),
            ),
          ),
        ),
      ),
    ),
  )
  const der = sequence(body, ECDSA_SHA256, bits(sign('sha256', body, privateKey)))
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }),
  }
}

function thumbprints(pem: string): { sha1: string; sha256: string } {
  try {
    const certificate = new X509Certificate(pem)
    return { sha1: certificate.fingerprint, sha256: certificate.fingerprint256 }
  } catch (error) {
    throw new AgentError('CONFIG', 'The server.pem of the lab directory is not a certificate.', {
      next: 'Remove server.pem and server.key; the lab makes a new certificate.',
      cause: error,
    })
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}
