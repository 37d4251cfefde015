import type { ClaimId, JobId } from './ids.ts'
import type { VmRef } from './model.ts'

/**
 * What a transport may hold beyond the process while it has a disk open, by the name of its claim: `args` is known before the effect, `ref` is
 * what undoes it. Plain JSON. A kind here is a kind of `journal/claim-kinds.ts` too, with one releaser in the registry.
 */
export interface TransportClaimKinds {
  /** An NFC lease of a snapshot's disks. Nothing carries the claim's id, but a VM has one lease at most. */
  exportLease: { args: { readonly vm: VmRef; readonly snapshot: string }; ref: { readonly lease: string } }
  /** A disk of another VM, attached to the proxy VM by its file; its claim id is in the name of an extraConfig entry of the proxy VM. */
  attachedDisk: { args: AttachedDisk; ref: { readonly key: number } }
}

/** `ref` of its claim: the device key it got on the proxy VM. */
export type AttachedDisk = {
  readonly proxy: VmRef
  /** `[ds] dir/x.vmx` of the proxy VM. */
  readonly proxyPathName: string
  /** Name of the VM whose disk it is, and the disk's label there, where they are known. */
  readonly vm?: string | undefined
  readonly disk?: string | undefined
  /** The link that is attached, `[ds] dir/x.vmdk`. */
  readonly fileName: string
  /** `backing.uuid` of the disk. */
  readonly uuid: string
  readonly mode: 'independent_nonpersistent' | 'persistent'
  /** Files of the disks that the proxy VM had before: never detached. */
  readonly before: readonly string[]
  /** The claim its entry names, where this one took over what another left. */
  readonly entryOf?: ClaimId | undefined
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
  /** For the mark that an effect carries. */
  readonly job: JobId
  take<K extends TransportClaimKind>(
    kind: K,
    args: TransportClaimKinds[K]['args'],
    acquire: (claim: ClaimId) => Promise<TransportClaimKinds[K]['ref']>,
  ): Promise<TransportClaim<K>>
}
