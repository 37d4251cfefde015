import { type Abortable, toAgentError, type TransportName, type Verdict } from '../core/index.ts'
import type { PresentDisk, Transport } from './transport.ts'

/** What one transport says of one disk before its snapshot. */
export type Foresight = { readonly transport: TransportName; readonly verdict: Verdict }

/**
 * What each of `transports` says of a disk as it is now, in their order, as far as can be seen with no snapshot taken: changes nothing. One that can say
 * nothing before counts as able to. With `wanted: 'changed'` those that read whole disks alone refuse, as they do in the run.
 */
export async function foreseeDisk(
  disk: PresentDisk,
  transports: readonly Transport[],
  wanted: 'allocated' | 'changed',
  options?: Abortable,
): Promise<readonly Foresight[]> {
  const seen: Foresight[] = []
  for (const transport of transports) seen.push({ transport: transport.name, verdict: await ask(disk, transport, wanted, options) })
  return seen
}

async function ask(disk: PresentDisk, transport: Transport, wanted: 'allocated' | 'changed', options?: Abortable): Promise<Verdict> {
  const handled = transport.handles(disk.disk)
  if (!handled.ok) return handled
  if (wanted === 'changed' && transport.wholeDisks === true)
    return { ok: false, reason: 'it reads whole disks, and only changed areas are wanted' }
  if (transport.foresee === undefined) return { ok: true, note: 'whether it can is seen once the snapshot is there' }
  try {
    return await transport.foresee(disk, options)
  } catch (error) {
    const shown = toAgentError(error)
    if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
    return { ok: false, reason: shown.message }
  }
}
