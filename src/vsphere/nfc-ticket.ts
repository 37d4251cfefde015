import { AgentError, type MoRef } from '../core/index.ts'
import { data } from './vim-data.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** A HostServiceTicket for the NFC port of the host that runs (or would run) a VM. Works once. */
export type NfcServiceTicket = {
  readonly host: string
  readonly port: number
  /** Hex pairs joined by `:`; SHA-1 as hosts give it. */
  readonly thumbprint: string
  readonly service: string
  /** A secret until it is used. */
  readonly sessionId: string
}

const SERVICE_INSTANCE: MoRef = { type: 'ServiceInstance', value: 'ServiceInstance' }
const NFC_PORT = 902

/** A ticket to read any disk file of the VM. AUTH (VirtualMachine.Provisioning.GetVmFiles), UNAVAILABLE (a server without the service). */
export async function ticketToRead(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<NfcServiceTicket> {
  return ask(vsphere, 'NfcGetVmFiles', { vm }, options)
}

/** A ticket to read and write one disk of the VM. AUTH (VirtualMachine.Provisioning.DiskRandomAccess). */
export async function ticketToWrite(
  vsphere: Vsphere,
  vm: MoRef,
  disk: { readonly key: number; readonly host: MoRef | undefined },
  options?: CallOptions,
): Promise<NfcServiceTicket> {
  return ask(vsphere, 'NfcRandomAccessOpenDisk', { vm, diskDeviceKey: disk.key, hostForAccess: disk.host }, options)
}

async function ask(vsphere: Vsphere, method: string, args: Parameters<typeof data>[0], options?: CallOptions): Promise<NfcServiceTicket> {
  const [ticket] = await vsphere.call(method, await nfcService(vsphere, options), args, options)
  const sessionId = ticket?.string('sessionId')
  const thumbprint = ticket?.string('sslThumbprint')
  if (ticket === undefined || sessionId === undefined || sessionId === '' || thumbprint === undefined) {
    throw new AgentError(
      'INTEGRITY',
      `${vsphere.host} gave an NFC ticket without ${sessionId === undefined ? 'its secret' : 'a thumbprint'}.`,
      {
        subject: options?.subject,
      },
    )
  }
  return {
    // A host that is asked directly does not name itself.
    host: ticket.string('host') ?? new URL(`https://${vsphere.host}`).hostname.replace(/^\[|\]$/g, ''),
    port: ticket.number('port') ?? NFC_PORT,
    thumbprint,
    service: ticket.string('service') ?? 'nfc',
    sessionId,
  }
}

/** The unpublished content names the service; its value differs between vCenter and hosts. */
async function nfcService(vsphere: Vsphere, options?: CallOptions): Promise<MoRef> {
  const [content] = await vsphere.call('RetrieveInternalContent', SERVICE_INSTANCE, {}, options)
  const service = content?.ref('nfcService')
  if (service !== undefined) return service
  throw new AgentError('UNAVAILABLE', `${vsphere.host} has no NFC service.`, {
    subject: vsphere.host,
    retry: 'never',
    next: 'Use another transport.',
  })
}
