import { createHash } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { AgentError, nodeTls } from '../core/index.ts'

/** A TLS session whose peer showed the pinned certificate. */
export type PinnedTls = { readonly stream: TLSSocket; readonly sha256: string }

/**
 * A TLS session over `under` with the server whose certificate has the thumbprint (SHA-1 or SHA-256, lower-case hex). The handshake ends before a
 * byte of ours is sent, and ends the connection when the certificate is another: AUTH. TLS 1.2 only: a late session ticket of TLS 1.3 would arrive
 * after NFC has dropped the session.
 */
export function pinnedTls(under: Duplex, host: string, thumbprint: string): Promise<PinnedTls> {
  return new Promise((resolve, reject) => {
    // No chain is checked because ESXi's certificate is its own; the thumbprint came over the verified vSphere session.
    const stream = nodeTls().connect({ socket: under, rejectUnauthorized: false, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' })
    const onError = (error: Error): void => {
      reject(
        new AgentError('UNAVAILABLE', `The TLS handshake with ${host} on the NFC port failed: ${error.message}.`, {
          subject: host,
          cause: error,
        }),
      )
    }
    const onClose = (): void => {
      reject(new AgentError('UNAVAILABLE', `${host} closed the connection during the TLS handshake.`, { subject: host }))
    }
    stream.once('error', onError)
    stream.once('close', onClose)
    stream.once('secureConnect', () => {
      stream.off('error', onError)
      stream.off('close', onClose)
      const { raw } = stream.getPeerX509Certificate() ?? {}
      const seen =
        raw === undefined
          ? undefined
          : createHash(thumbprint.length === 40 ? 'sha1' : 'sha256')
              .update(raw)
              .digest('hex')
      if (raw === undefined || seen !== thumbprint) {
        stream.on('error', () => stream.destroy())
        stream.destroy()
        reject(
          new AgentError('AUTH', `The certificate of ${host} on the NFC port is not the one vSphere named.`, {
            subject: host,
            next: 'Find out what answers on that port; a certificate renewed a moment ago is known to vCenter after a reconnect of the host.',
          }),
        )
        return
      }
      resolve({ stream, sha256: createHash('sha256').update(raw).digest('hex') })
    })
  })
}
