import { invalidArgument, type LabObject, type LabRef, labRef, type LabSession, type Methods, SERVICE_INSTANCE } from '../../wire/index.ts'
import { needNumber, needReference, reference } from '../arguments.ts'
import { type Endpoint, entityOf, vmOf } from '../endpoint.ts'
import { notSupported } from '../faults.ts'
import { disksOf, type VmRecord } from '../record.ts'
import type { View } from '../view.ts'

/** NFC library of the release the lab plays, as its hosts tell it. */
const LIBRARY_VERSION = 17
/** The thumbprint of nobody. */
const WRONG_THUMBPRINT = Array.from({ length: 20 }, () => '5A').join(':')

/** The unpublished object that hands out tickets; its id differs between vCenter and hosts. */
export const nfcServiceRef = (view: View): LabRef => labRef('NfcService', view.kind === 'vcenter' ? 'nfcService' : 'ha-nfc-service')

/** NfcService, and the unpublished content of ServiceInstance that leads to it. */
export function nfcMethods(endpoint: Endpoint): Methods {
  const { model, view } = endpoint

  const ticket = (session: LabSession, vm: VmRecord, access: 'read' | 'write', disk: number | undefined): LabObject => {
    const { door } = model.nfcTickets
    if (door === undefined) throw notSupported()
    const wrong = model.rules
      .strike({ on: 'nfc:ticket', names: model.names(vm), endpoint: view.kind }, 'nfc')
      .some((rule) => rule.nfc === 'wrongThumbprint')
    const made = model.nfcTickets.issue({ vm: vm.id, access, disk, host: vm.host, through: view.kind })
    model.log.debug('an NFC ticket was issued', { vm: vm.config.name, access, user: session.userName })
    const vcenter = view.kind === 'vcenter'
    return {
      $type: 'HostServiceTicket',
      // A host that is asked directly does not name itself.
      host: vcenter ? '127.0.0.1' : undefined,
      port: door.port,
      sslThumbprint: wrong ? WRONG_THUMBPRINT : door.sslThumbprint,
      service: vcenter ? 'vpxa-nfc' : 'nfc',
      serviceVersion: '1.1',
      sessionId: made.sessionId,
    }
  }

  const oneDisk = (args: Parameters<typeof needNumber>[0], session: LabSession, access: 'read' | 'write'): LabObject => {
    const vm = vmOf(endpoint, needReference(args, 'vm'))
    const key = needNumber(args, 'diskDeviceKey')
    const host = reference(args, 'hostForAccess')
    if (host !== undefined && entityOf(endpoint, host, 'host').id !== vm.host) throw invalidArgument('hostForAccess')
    const configs = [vm.config, ...vm.snapshots.map((snapshot) => snapshot.config)]
    if (!configs.some((config) => disksOf(config).some((disk) => disk.key === key))) throw invalidArgument('diskDeviceKey')
    return ticket(session, vm, access, key)
  }

  return {
    [SERVICE_INSTANCE.$ref]: {
      RetrieveInternalContent: () => ({ $type: 'InternalServiceInstanceContent', nfcService: nfcServiceRef(view) }),
    },
    NfcService: {
      NfcGetVmFiles: ({ args, session }) => ticket(session, vmOf(endpoint, needReference(args, 'vm')), 'read', undefined),
      NfcRandomAccessOpenReadonly: ({ args, session }) => oneDisk(args, session, 'read'),
      NfcRandomAccessOpenDisk: ({ args, session }) => oneDisk(args, session, 'write'),
      NfcGetServerNfcLibVersion: ({ args }) => {
        entityOf(endpoint, needReference(args, 'hostForAccess'), 'host')
        return LIBRARY_VERSION
      },
    },
  }
}
