import { invalidArgument, type LabObject, type LabRef, labRef, type LabSession, type Methods, SERVICE_INSTANCE } from '../../wire/index.ts'
import { needNumber, needReference, reference } from '../arguments.ts'
import { type Endpoint, entityOf, vmOf } from '../endpoint.ts'
import { notSupported } from '../faults.ts'
import type { NfcTicket } from '../nfc-tickets.ts'
import { disksOf, type VmRecord } from '../record.ts'
import type { View } from '../view.ts'

/** NFC library of a host by the version its frame 51 tells: ESXi 8 speaks 11 and says 11, ESXi 7.0 speaks 9 and says 7. */
const libraryVersion = (version: number): number => (version >= 11 ? 11 : version >= 9 ? 7 : 0)
/** The thumbprint of nobody. */
const WRONG_THUMBPRINT = Array.from({ length: 20 }, () => '5A').join(':')

/** The unpublished object that hands out tickets; its id differs between vCenter and hosts. */
export const nfcServiceRef = (view: View): LabRef => labRef('NfcService', view.kind === 'vcenter' ? 'nfcService' : 'ha-nfc-service')

/** NfcService, and the unpublished content of ServiceInstance that leads to it. */
export function nfcMethods(endpoint: Endpoint): Methods {
  const { model, view } = endpoint

  const ticket = (
    session: LabSession,
    names: readonly string[],
    what: Omit<NfcTicket, 'sessionId' | 'issuedMs' | 'through'>,
  ): LabObject => {
    const { door } = model.nfcTickets
    if (door === undefined) throw notSupported()
    const quirks = model.rules.strike({ on: 'nfc:ticket', names, endpoint: view.kind }, 'nfc').map((rule) => rule.nfc)
    const made = model.nfcTickets.issue({ ...what, through: view.kind })
    model.log.debug('an NFC ticket was issued', { for: names[0], access: what.access, user: session.userName })
    const vcenter = view.kind === 'vcenter'
    const thumbprint = quirks.includes('wrongThumbprint') ? WRONG_THUMBPRINT : door.sslThumbprint
    return {
      $type: 'HostServiceTicket',
      // A host that is asked directly does not name itself.
      host: vcenter ? '127.0.0.1' : undefined,
      port: door.port,
      sslThumbprint: quirks.includes('certificate') ? undefined : thumbprint,
      sslCertificate: quirks.includes('certificate') ? door.certificate : undefined,
      service: vcenter ? 'vpxa-nfc' : 'nfc',
      serviceVersion: '1.1',
      sessionId: made.sessionId,
    }
  }

  const ofVm = (session: LabSession, vm: VmRecord, access: 'read' | 'write', disk: number | undefined): LabObject =>
    ticket(session, model.names(vm), { vm: vm.id, access, disk, host: vm.host })

  const oneDisk = (args: Parameters<typeof needNumber>[0], session: LabSession, access: 'read' | 'write'): LabObject => {
    const vm = vmOf(endpoint, needReference(args, 'vm'))
    const key = needNumber(args, 'diskDeviceKey')
    const host = reference(args, 'hostForAccess')
    if (host !== undefined && entityOf(endpoint, host, 'host').id !== vm.host) throw invalidArgument('hostForAccess')
    const configs = [vm.config, ...vm.snapshots.map((snapshot) => snapshot.config)]
    if (!configs.some((config) => disksOf(config).some((disk) => disk.key === key))) throw invalidArgument('diskDeviceKey')
    return ofVm(session, vm, access, key)
  }

  return {
    [SERVICE_INSTANCE.$ref]: {
      RetrieveInternalContent: () => ({ $type: 'InternalServiceInstanceContent', nfcService: nfcServiceRef(view) }),
    },
    NfcService: {
      NfcGetVmFiles: ({ args, session }) => ofVm(session, vmOf(endpoint, needReference(args, 'vm')), 'read', undefined),
      NfcRandomAccessOpenReadonly: ({ args, session }) => oneDisk(args, session, 'read'),
      NfcRandomAccessOpenDisk: ({ args, session }) => oneDisk(args, session, 'write'),
      NfcRandomAccessFileOpen: ({ args, session }) => oneDisk(args, session, 'read'),
      NfcFileManagement: ({ args, session }) => {
        const store = entityOf(endpoint, needReference(args, 'ds'), 'datastore')
        const [host] = store.hosts
        if (host === undefined) throw invalidArgument('ds')
        return ticket(session, [store.name], { vm: undefined, datastore: store.name, access: 'read', disk: undefined, host })
      },
      NfcGetServerNfcLibVersion: ({ args }) => {
        entityOf(endpoint, needReference(args, 'hostForAccess'), 'host')
        return libraryVersion(model.nfc.version)
      },
    },
  }
}
