import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

/** A certificate for 127.0.0.1 and localhost that vouches for itself, made by openssl in a directory. */
export function makeCertificate(openssl: string, directory: string): { readonly certificate: string; readonly key: string } {
  const [certificate, key] = [join(directory, 'certificate.pem'), join(directory, 'key.pem')]
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost']
  const output = ['-keyout', key, '-out', certificate, '-days', '2']
  execFileSync(openssl, ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', ...subject, ...output], {
    stdio: 'ignore',
  })
  return { certificate, key }
}
