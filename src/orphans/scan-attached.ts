import { type Abortable, isAgentError } from '../core/index.ts'
import { attachedEntries, attachedOnProxy, findProxy, type ProxyGuest } from '../transport/index.ts'
import type { Vsphere } from '../vsphere/index.ts'
import type { MarkedObject, MarkScan } from './marked-things.ts'
import { reasonOf } from './scan-directories.ts'

/** The part of `findMarked` that the proxy VM tells: disks that its entries say we attached, and entries whose disk is off already. */
export async function scanAttached(vsphere: Vsphere, guest: ProxyGuest, options?: Abortable): Promise<Pick<MarkScan, 'marked' | 'unseen'>> {
  try {
    const proxy = await findProxy(vsphere, guest, options)
    if ('refusal' in proxy) return { marked: [], unseen: [] }
    const marked = attachedEntries(proxy.hardware.extraConfig).map(({ mark, fileName }): MarkedObject => {
      const { attached, key } = attachedOnProxy(proxy, mark.claim, fileName)
      return {
        mark,
        claim: mark.claim,
        name: fileName,
        path: `${fileName} on ${proxy.ref.name}`,
        since: mark.time,
        bytes: undefined,
        doubt: attached.mode === 'persistent' ? 'it is attached for writing, and somebody may be writing to it' : undefined,
        what: { kind: 'disk', attached, key },
      }
    })
    return { marked, unseen: [] }
  } catch (error) {
    if (isAgentError(error, 'CANCELED')) throw error
    return { marked: [], unseen: [{ where: 'the proxy VM', reason: reasonOf(error) }] }
  }
}
