import { AgentError, type DiskRef, type TransportName, type VmConfig } from '../core/index.ts'

/** A transport that does not read a disk, and why. */
export type Refusal = { readonly transport: TransportName; readonly reason: string }

/** No transport reads a disk; `refused` is what each said. UNAVAILABLE. */
export class NoTransportError extends AgentError {
  readonly refused: readonly Refusal[]

  constructor({ config, disk }: { readonly config: VmConfig; readonly disk: DiskRef }, refused: readonly Refusal[]) {
    const reasons = refused.map(({ transport, reason }) => `${transport}: ${reason}`).join('; ')
    super('UNAVAILABLE', `No transport can read ${disk.label} of ${config.vm.name} (${reasons || 'none is configured'}).`, {
      subject: disk.label,
      retry: 'later',
      next: `Run "vcb doctor --vm ${config.vm.name}" to see what each transport says, or name others with --transport.`,
    })
    this.refused = Object.freeze([...refused])
  }
}
