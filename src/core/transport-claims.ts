import type { ClaimId } from './ids.ts'
import type { VmRef } from './model.ts'

/**
 * What a transport may hold beyond the process while it has a disk open, by the name of its claim: `args` is known before the effect, `ref` is
 * what undoes it. Plain JSON. A kind here is a kind of `journal/claim-kinds.ts` too, with one releaser in the registry.
 */
export interface TransportClaimKinds {
  /** An NFC lease of a snapshot's disks. Nothing carries the claim's id, but a VM has one lease at most. */
  exportLease: { args: { readonly vm: VmRef; readonly snapshot: string }; ref: { readonly lease: string } }
}

export type TransportClaimKind = keyof TransportClaimKinds

/** One thing a transport holds. Disposal releases it, in the order its owner chooses; what cannot be released stays among the job's claims,
 * which tell of it when the job ends, and is no error of the disposal. */
export type TransportClaim<K extends TransportClaimKind> = AsyncDisposable & {
  readonly id: ClaimId
  readonly ref: TransportClaimKinds[K]['ref']
}

/**
 * The claims of the running job as its transports see them: journaled before `acquire`, which writes the claim's id into the effect where the
 * effect can carry it. Handed down by the flow, which makes each stand on the snapshot that is read, so that no snapshot is removed below it.
 */
export interface TransportClaims {
  take<K extends TransportClaimKind>(
    kind: K,
    args: TransportClaimKinds[K]['args'],
    acquire: (claim: ClaimId) => Promise<TransportClaimKinds[K]['ref']>,
  ): Promise<TransportClaim<K>>
}
