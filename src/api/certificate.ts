import { createHash, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { AgentError, fromErrno, toAgentError } from '../core/index.ts'

export type CertificateFiles = { readonly certificate: string; readonly key: string }

export type Certificate = {
  readonly cert: string
  readonly key: string
  /** Changes when either file does. */
  readonly digest: string
  /** SHA-256, hex pairs joined by colons: what callers pin. */
  readonly fingerprint: string
  readonly validTo: Date
}

/** The server's own certificate, with the chain that follows it in the file, and its key, which fits it. CONFIG. */
export async function readCertificate({ certificate, key }: CertificateFiles): Promise<Certificate> {
  const [cert, secret] = await Promise.all([read(certificate), read(key)])
  try {
    // Refuses what is no certificate or key, and a key that is another's.
    createSecureContext({ cert, key: secret })
    const { fingerprint256, validTo } = new X509Certificate(cert)
    const digest = createHash('sha256').update(cert).update('\0').update(secret).digest('hex')
    return { cert, key: secret, digest, fingerprint: fingerprint256, validTo: new Date(validTo) }
  } catch (error) {
    throw new AgentError('CONFIG', `${certificate} and ${key} are not a certificate and its key (${toAgentError(error).message}).`, {
      subject: certificate,
      cause: error,
      next: 'Set api.tls.certificate and api.tls.key to PEM files that belong together.',
    })
  }
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new AgentError('CONFIG', `The file ${path} for TLS cannot be read.`, {
      subject: path,
      cause: fromErrno(error, path) ?? error,
      next: 'Correct api.tls, or give the agent access to the file.',
    })
  }
}
