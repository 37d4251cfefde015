import type { ClaimId, TransportClaims } from '../core/index.ts'
import { type Claims, LeftError } from '../journal/index.ts'

/**
 * A job's claims as its transports take them; each stands on `below`, the snapshot that is read. What a transport cannot give back is left to the
 * job's end, which reports it: the bytes read are no worse for it.
 */
export function transportClaims(claims: Claims, below: readonly ClaimId[]): TransportClaims {
  return {
    job: claims.job,
    async take(kind, args, acquire) {
      const held = await claims.take(kind, args, below, acquire)
      return {
        id: held.id,
        ref: held.ref,
        [Symbol.asyncDispose]: async () => {
          try {
            await claims.release(held.id)
          } catch (error) {
            if (!(error instanceof LeftError)) throw error
          }
        },
      }
    },
  }
}
