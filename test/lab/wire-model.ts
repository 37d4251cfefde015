import { mkdtemp, rm } from 'node:fs/promises'
import { request as httpsRequest } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLog, systemClock, type Clock } from '../../src/core/index.ts'
import {
  aboutInfo,
  ChangeFeed,
  Events,
  labRef,
  type LabKind,
  type LabRef,
  type LabValue,
  type ManagedObject,
  type Methods,
  ownManagerRef,
  serveSoap,
  Sessions,
  type SoapServer,
  type SoapServerOptions,
  Tasks,
  textOf,
  VimFault,
} from '../../src/lab/wire/index.ts'

/** A small model behind the wire: one datacenter, one host, one datastore, any number of VMs. Only for the wire's own tests. */
export class WireModel implements AsyncDisposable {
  readonly feed = new ChangeFeed()
  readonly sessions: Sessions
  readonly tasks: Tasks
  readonly events: Events
  readonly objects = new Map<string, Record<string, LabValue> & { ref: LabRef }>()
  readonly directory: string
  readonly server: SoapServer

  private constructor(directory: string, server: SoapServer, parts: Pick<WireModel, 'sessions' | 'tasks' | 'events' | 'feed' | 'objects'>) {
    this.directory = directory
    this.server = server
    this.sessions = parts.sessions
    this.tasks = parts.tasks
    this.events = parts.events
    this.feed = parts.feed
    this.objects = parts.objects
  }

  static async start(vms = 3, options: Partial<SoapServerOptions> & { idleMs?: number } = {}): Promise<WireModel> {
    const kind: LabKind = options.kind ?? 'vcenter'
    const clock: Clock = options.clock ?? systemClock
    const directory = await mkdtemp(join(tmpdir(), 'lab-wire-'))
    const feed = new ChangeFeed()
    const check = (userName: string, password: string) =>
      userName === 'user' && password === 'pass' ? { userName: 'LAB\\user', fullName: 'User' } : undefined
    const sessions = new Sessions({ clock, check, ...(options.idleMs === undefined ? {} : { idleMs: options.idleMs }) })
    const objects = inventory(vms)
    const tasks = new Tasks({
      clock,
      feed,
      kind,
      taskManager: ownManagerRef(kind, 'taskManager'),
      entityName: (ref) => textOf(objects.get(ref.value)?.name),
    })
    const events = new Events({ clock, feed, eventManager: ownManagerRef(kind, 'eventManager') })
    const store = {
      get: (ref: LabRef): ManagedObject | undefined => {
        const found = objects.get(ref.value)
        return found === undefined
          ? undefined
          : { ref: found.ref, property: (name) => (name === 'recentTask' ? tasks.recent(found.ref) : found[name]) }
      },
    }
    const server = await serveSoap({
      kind,
      about: aboutInfo(kind, '5e8c3c8e-0000-4000-8000-000000000001'),
      rootFolder: labRef('Folder', 'group-d1'),
      store,
      methods: methods(objects, tasks, feed),
      feed,
      sessions,
      tasks,
      events,
      clock,
      log: silentLog,
      directory,
      ...options,
    })
    return new WireModel(directory, server, { sessions, tasks, events, feed, objects })
  }

  /** Changes top-level properties of an object and tells the feed. */
  set(id: string, values: Record<string, LabValue>): void {
    const object = this.objects.get(id)
    if (object === undefined) throw new Error(`no object ${id}`)
    Object.assign(object, values)
    this.feed.changed(object.ref, ...Object.keys(values))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]()
    await rm(this.directory, { recursive: true, force: true })
  }
}

function inventory(count: number): Map<string, Record<string, LabValue> & { ref: LabRef }> {
  const objects = new Map<string, Record<string, LabValue> & { ref: LabRef }>()
  const add = (type: string, id: string, name: string, parent: LabRef | undefined, values: Record<string, LabValue>): LabRef => {
    const ref = labRef(type, id)
    objects.set(id, { ref, name, parent, ...values })
    return ref
  }
  const ref = labRef
  const dc = ref('Datacenter', 'datacenter-2')
  objects.set('SearchIndex', { ref: ref('SearchIndex', 'SearchIndex') })
  add('Folder', 'group-d1', 'Datacenters', undefined, { childEntity: [dc], childType: ['Folder', 'Datacenter'] })
  add('Datacenter', dc.value, 'DC', ref('Folder', 'group-d1'), {
    vmFolder: ref('Folder', 'group-v3'),
    hostFolder: ref('Folder', 'group-h4'),
    datastoreFolder: ref('Folder', 'group-s5'),
    networkFolder: ref('Folder', 'group-n6'),
    datastore: [ref('Datastore', 'datastore-9')],
    network: [],
  })
  const vmRefs = Array.from({ length: count }, (_, index) => ref('VirtualMachine', `vm-${100 + index}`))
  add('Folder', 'group-v3', 'vm', dc, { childEntity: vmRefs, childType: ['Folder', 'VirtualMachine'] })
  add('Folder', 'group-h4', 'host', dc, { childEntity: [ref('ComputeResource', 'domain-c7')], childType: ['Folder', 'ComputeResource'] })
  add('Folder', 'group-s5', 'datastore', dc, { childEntity: [ref('Datastore', 'datastore-9')], childType: ['Folder', 'Datastore'] })
  add('Folder', 'group-n6', 'network', dc, { childEntity: [], childType: ['Folder', 'Network'] })
  add('ComputeResource', 'domain-c7', 'esx1', ref('Folder', 'group-h4'), {
    host: [ref('HostSystem', 'host-8')],
    resourcePool: ref('ResourcePool', 'resgroup-10'),
    datastore: [ref('Datastore', 'datastore-9')],
  })
  add('ResourcePool', 'resgroup-10', 'Resources', ref('ComputeResource', 'domain-c7'), {
    resourcePool: [],
    vm: vmRefs,
    owner: ref('ComputeResource', 'domain-c7'),
  })
  add('HostSystem', 'host-8', 'esx1', ref('ComputeResource', 'domain-c7'), { vm: vmRefs, datastore: [ref('Datastore', 'datastore-9')] })
  add('Datastore', 'datastore-9', 'ds1', ref('Folder', 'group-s5'), {
    info: {
      $type: 'VmfsDatastoreInfo',
      name: 'ds1',
      url: 'ds:///vmfs/volumes/1/',
      freeSpace: 5_000_000_000_000,
      maxFileSize: 5_000_000_000_000,
      vmfs: {
        $type: 'HostVmfsVolume',
        type: 'VMFS',
        name: 'ds1',
        capacity: 9_000_000_000_000,
        blockSizeMb: 1,
        maxBlocks: 1,
        majorVersion: 6,
        version: '6.82',
        uuid: 'u',
        extent: [{ $type: 'HostScsiDiskPartition', diskName: 'naa.1', partition: 1 }],
        vmfsUpgradable: false,
      },
    },
    vm: vmRefs,
  })
  for (const [index, vm] of vmRefs.entries()) {
    add('VirtualMachine', vm.value, `web-${index}`, ref('Folder', 'group-v3'), {
      config: config(vm.value, index),
      runtime: runtime('poweredOn'),
      datastore: [ref('Datastore', 'datastore-9')],
      resourcePool: ref('ResourcePool', 'resgroup-10'),
    })
  }
  return objects
}

export const runtime = (powerState: string): LabValue => ({
  $type: 'VirtualMachineRuntimeInfo',
  host: labRef('HostSystem', 'host-8'),
  connectionState: 'connected',
  powerState,
  faultToleranceState: 'notConfigured',
  toolsInstallerMounted: false,
  numMksConnections: 0,
  recordReplayState: 'inactive',
  onlineStandby: false,
  consolidationNeeded: false,
})

function config(id: string, index: number): LabValue {
  const disk = (unit: number): LabValue => ({
    $type: 'VirtualDisk',
    key: 2000 + unit,
    deviceInfo: { $type: 'Description', label: `Hard disk ${unit + 1}`, summary: '1,024 KB' },
    backing: {
      $type: 'VirtualDiskFlatVer2BackingInfo',
      fileName: `[ds1] ${id}/${id}_${unit}.vmdk`,
      datastore: labRef('Datastore', 'datastore-9'),
      diskMode: 'persistent',
      thinProvisioned: true,
      uuid: `6000C29-${index}-${unit}`,
      changeId: '52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/81',
    },
    controllerKey: 1000,
    unitNumber: unit,
    capacityInKB: 1024,
    capacityInBytes: 1_048_576,
  })
  return {
    $type: 'VirtualMachineConfigInfo',
    changeVersion: '1',
    modified: new Date('2026-01-01T00:00:00Z'),
    name: `web-${index}`,
    guestFullName: 'Other',
    version: 'vmx-19',
    uuid: `4200-${index}`,
    instanceUuid: `5000-${index}`,
    template: false,
    guestId: 'otherGuest64',
    annotation: '<a & "b">\n\u0001',
    files: { $type: 'VirtualMachineFileInfo', vmPathName: `[ds1] ${id}/${id}.vmx` },
    hardware: {
      $type: 'VirtualHardware',
      numCPU: 1,
      memoryMB: 512,
      device: [
        {
          $type: 'ParaVirtualSCSIController',
          key: 1000,
          controllerKey: 100,
          unitNumber: 3,
          busNumber: 0,
          device: [2000, 2001],
          hotAddRemove: true,
          sharedBus: 'noSharing',
          scsiCtlrUnitNumber: 7,
        },
        disk(0),
        disk(1),
      ],
    },
    extraConfig: [{ $type: 'OptionValue', key: 'scsi0:0.ctkEnabled', value: 'TRUE' }],
    changeTrackingEnabled: true,
  }
}

function methods(objects: Map<string, Record<string, LabValue> & { ref: LabRef }>, tasks: Tasks, feed: ChangeFeed): Methods {
  const power = (state: string) => (call: { self: ManagedObject; session: { userName: string } }) =>
    tasks.run(state === 'poweredOn' ? 'PowerOnVM_Task' : 'PowerOffVM_Task', call.self.ref, call.session, async (task) => {
      task.progress(50)
      const object = objects.get(call.self.ref.value)
      const now = (object?.runtime as { powerState?: string } | undefined)?.powerState
      if (now === state)
        throw new VimFault(
          'InvalidPowerState',
          { requestedState: state, existingState: now },
          'The attempted operation cannot be performed.',
        )
      Object.assign(object ?? {}, { runtime: runtime(state) })
      feed.changed(call.self.ref, 'runtime')
      return undefined
    })
  return {
    VirtualMachine: {
      PowerOnVM_Task: power('poweredOn'),
      PowerOffVM_Task: power('poweredOff'),
      QueryChangedDiskAreas: ({ args }) => ({
        $type: 'DiskChangeInfo',
        startOffset: args.startOffset,
        length: 4_398_046_511_104,
        changedArea: [{ $type: 'DiskChangeExtent', start: 0, length: 65_536 }],
      }),
      ReconfigVM_Task: ({ self, session, args }) =>
        tasks.run('ReconfigVM_Task', self.ref, session, () => String((args.spec as { annotation?: string }).annotation)),
    },
    VirtualMachineSnapshot: {},
  }
}

export type Reply = { readonly status: number; readonly body: string; readonly headers: Record<string, string | string[] | undefined> }

/** Sends one SOAP body over TLS; `cookie` and `version` as given. */
export function soap(server: SoapServer, body: string, cookie = '', version = '"urn:vim25/8.0.3.0"', path = '/sdk'): Promise<Reply> {
  const text = `<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>${body}</soapenv:Body></soapenv:Envelope>`
  return http(server, 'POST', path, { soapaction: version, cookie, 'content-type': 'text/xml; charset=utf-8' }, text)
}

export function http(
  server: SoapServer,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      { host: '127.0.0.1', port: server.port, method, path, headers, ca: server.certificate, servername: 'localhost', agent: false },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8'), headers: response.headers }),
        )
        response.on('error', reject)
      },
    )
    request.on('error', reject)
    request.end(body)
  })
}

/** Logs in and answers the cookie to send. */
export async function login(server: SoapServer, manager = 'SessionManager'): Promise<string> {
  const reply = await soap(
    server,
    `<Login xmlns="urn:vim25"><_this type="SessionManager">${manager}</_this><userName>user</userName><password>pass</password></Login>`,
  )
  const header = reply.headers['set-cookie']
  if (reply.status !== 200 || header === undefined) throw new Error(`no login: ${reply.body}`)
  return String(header).split(';')[0] ?? ''
}
