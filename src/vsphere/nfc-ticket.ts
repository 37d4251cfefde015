import { X509Certificate } from 'node:crypto'
import { AgentError, isAgentError, type MoRef } from '../core/index.ts'
import { data } from './vim-data.ts'
import { isFault } from './vim-fault.ts'
import type { VimNode } from './vim-node.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** A HostServiceTicket for the NFC port of the host that runs (or would run) a VM. Works once. */
export type NfcServiceTicket = {
  readonly host: string
  readonly port: number
  /** Hex pairs joined by `:`: SHA-1 as hosts give it, SHA-256 where the ticket carries the whole certificate (vSphere 9). */
  readonly thumbprint: string
  readonly service: string
  /** A secret until it is used. */
  readonly sessionId: string
}

const SERVICE_INSTANCE: MoRef = { type: 'ServiceInstance', value: 'ServiceInstance' }
const NFC_PORT = 902

/** What makes a ticket for the whole VM impossible where one for a disk may still be had. */
const NO_TICKET_FOR_THE_VM = ['NoPermission', 'MethodNotFound', 'NotSupported', 'NotImplemented', 'InvalidRequest', 'MethodDisabled']

/**
 * A ticket to read any disk file of the VM, or, for who may not have that, the files of `disk` alone. AUTH (VirtualMachine.Provisioning.GetVmFiles,
 * and .DiskRandomRead for a disk), UNAVAILABLE (a server without the service).
 */
export async function ticketToRead(
  vsphere: Vsphere,
  vm: MoRef,
  options?: CallOptions & { readonly disk?: { readonly key: number } | undefined },
): Promise<NfcServiceTicket> {
  try {
    return await ask(vsphere, 'NfcGetVmFiles', { vm }, options)
  } catch (error) {
    if (options?.disk === undefined || !isFault(error, ...NO_TICKET_FOR_THE_VM)) throw error
    try {
      return await ask(vsphere, 'NfcRandomAccessOpenReadonly', { vm, diskDeviceKey: options.disk.key }, options)
    } catch (again) {
      // The first reason names the privilege that is usually given.
      throw isAgentError(again, 'CANCELED') ? again : error
    }
  }
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
  const thumbprint = ticket === undefined ? undefined : thumbprintOf(ticket, vsphere)
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

/** Of the certificate where the ticket has it, which says more than a SHA-1. */
function thumbprintOf(ticket: VimNode, vsphere: Vsphere): string | undefined {
  const pem = ticket.string('sslCertificate')
  if (pem === undefined || pem === '') return ticket.string('sslThumbprint')
  try {
    return new X509Certificate(pem).fingerprint256
  } catch (error) {
    throw new AgentError('INTEGRITY', `${vsphere.host} gave an NFC ticket whose certificate cannot be read.`, { cause: error })
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
