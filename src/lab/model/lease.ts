import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import { exportStream, importStream } from '../storage/index.ts'
import {
  invalidArgument,
  type LabObject,
  type LabRef,
  labRef,
  type LabSession,
  type LabValue,
  type ManagedObject,
  notFound,
  toVimFault,
  VimFault,
} from '../wire/index.ts'
import type { FaultRule } from './fault-rules.ts'
import { invalidPowerState, invalidState, taskInProgress } from './faults.ts'
import { bodyFaults, type HttpFaults } from './http-faults.ts'
import { type LeaseQuirk, quirkyExport } from './lease-quirks.ts'
import type { Model } from './model.ts'
import { type DiskRecord, diskLabel, disksOf, isIndependent, type SnapshotRecord, type VmRecord } from './record.ts'
import type { View } from './view.ts'

const IMPORT_TASK = 'ResourcePool.ImportVAppLRO'

type Transfer = {
  readonly disk: DiskRecord
  readonly name: string
  readonly key: string
  readonly importKey: string
  done: { size: number; sha1: string; sha256: string; populated: number } | undefined
}

type Lease = {
  readonly ref: LabRef
  readonly id: string
  readonly kind: 'export' | 'import'
  readonly owner: LabSession
  readonly snapshot: SnapshotRecord | undefined
  vm: VmRecord | undefined
  state: 'initializing' | 'ready' | 'done' | 'error'
  error: VimFault | undefined
  progress: number
  lastSign: number
  transfers: Transfer[]
  readonly checksums: Map<string, string>
  readonly dispose: (vm: VmRecord) => Promise<void>
  /** Answers that are being sent; cut when the lease ends. */
  readonly sending: Set<ServerResponse>
  /** What the rules want of it from its beginning. */
  readonly quirks: readonly FaultRule[]
  /** Ends the task that shows the lease. */
  onEnd: (fault: VimFault | undefined) => void
}

export type LeaseHost = {
  /** `https://host:port` that the device URLs name; `https://*` on ESXi. */
  readonly base: () => string
  /** SHA-1 thumbprint of the server behind the URLs. */
  readonly sslThumbprint: () => string
}

/**
 * Export and import leases of one endpoint, and the `/nfc` URLs behind them. The id in a URL is the ticket; no cookie is asked for. A lease
 * that hears no progress for the scenario's time ends with an error, and an import then leaves nothing.
 */
export class Leases {
  readonly #model: Model
  readonly #view: View
  readonly #host: LeaseHost
  readonly #leases = new Map<string, Lease>()
  readonly #sweep: Disposable
  #next = 1

  constructor(model: Model, view: View, host: LeaseHost) {
    this.#model = model
    this.#view = view
    this.#host = host
    this.#sweep = model.clock.every(
      500,
      () => this.#expire(),
      (error) => model.log.error('a lease could not be ended', { error: String(error) }),
    )
    model.onClose(async () => {
      this.#sweep[Symbol.dispose]()
      for (const lease of this.#leases.values())
        if (isOpen(lease)) await this.#end(lease, new VimFault('RequestCanceled', {}, 'The lab is stopping.'))
    })
  }

  /** True while a lease keeps power, snapshot and destroy operations away from a VM. */
  holds(vm: VmRecord): boolean {
    return [...this.#leases.values()].some((lease) => lease.vm?.id === vm.id && isOpen(lease))
  }

  get(id: string): ManagedObject | undefined {
    const lease = this.#leases.get(id)
    return lease === undefined ? undefined : { ref: lease.ref, property: (name) => this.#property(lease, name) }
  }

  list(): { id: string; vm: string; kind: 'export' | 'import'; state: string }[] {
    return [...this.#leases.values()].map((lease) => ({
      id: lease.ref.value,
      vm: lease.vm?.config.name ?? '',
      kind: lease.kind,
      state: lease.state,
    }))
  }

  exportVm(session: LabSession, vm: VmRecord, snapshot: SnapshotRecord | undefined): LabRef {
    if (snapshot === undefined && vm.power !== 'poweredOff') throw invalidPowerState('poweredOff', vm.power)
    if (this.holds(vm) || this.#model.busyWith(vm) !== undefined) throw taskInProgress()
    const on = snapshot === undefined ? 'ExportVm' : 'ExportSnapshot'
    const quirks = this.#model.rules.strike({ on, names: this.#model.names(vm), endpoint: this.#view.kind }, 'lease')
    const lease = this.#open('export', session, snapshot, async () => undefined, quirks)
    lease.vm = vm
    void this.#initialise(lease, async () => {
      await this.#model.ensure(vm)
      const config = snapshot?.config ?? vm.config
      lease.transfers = disksOf(config)
        .filter((disk, index) => !isIndependent(disk) && disk.rdm !== 'physical' && (index > 0 || !has(quirks, 'missingDisk')))
        .map((disk, index) => transferOf(disk, index, `/${this.#view.vmRef(vm).value}/${controllerName(diskLabel(config, disk))}`, ''))
    })
    return lease.ref
  }

  importVm(session: LabSession, pool: LabRef, create: () => Promise<LabRef>, dispose: (vm: VmRecord) => Promise<void>): LabRef {
    const lease = this.#open('import', session, undefined, dispose)
    const initialised = this.#initialise(lease, async () => {
      const made = await create()
      const entity = this.#view.find(made.value)
      if (entity?.kind !== 'vm') throw notFound(pool)
      lease.vm = entity.record
      this.#showImport(lease, made)
      lease.transfers = disksOf(entity.record.config).map((disk, index) =>
        transferOf(
          disk,
          index,
          `/${made.value}/${controllerName(diskLabel(entity.record.config, disk))}`,
          `/${entity.record.config.name}/${controllerName(diskLabel(entity.record.config, disk))}`,
        ),
      )
    })
    // Before there is a VM the task is the pool's, so that whoever looks for the VM sees that one may still come.
    this.#view.tasks?.run('ImportVAppLRO', pool, session, () => initialised, { descriptionId: IMPORT_TASK })
    return lease.ref
  }

  /** An import is a task on its VM, which anybody with the privilege may cancel. */
  #showImport(lease: Lease, vm: LabRef): void {
    this.#view.tasks?.run(
      'ImportVAppLRO',
      vm,
      lease.owner,
      (task) =>
        new Promise((resolve, reject) => {
          lease.onEnd = (fault) => (fault === undefined ? resolve(vm) : reject(fault))
          const cancel = (): void => {
            this.#end(lease, new VimFault('RequestCanceled', {}, 'The import was canceled.')).catch((error: unknown) =>
              this.#model.log.error('a canceled import could not be ended', { error: String(error) }),
            )
          }
          task.signal.addEventListener('abort', cancel, { once: true })
        }),
      { cancelable: true, descriptionId: IMPORT_TASK },
    )
  }

  progress(ref: LabRef, percent: number): void {
    const lease = this.#known(ref)
    if (!isOpen(lease))
      throw lease.state === 'error' ? new VimFault('Timedout', {}, 'The lease has ended.') : invalidState('The lease has ended.')
    if (percent < 0 || percent > 100) throw invalidArgument('percent')
    lease.progress = percent
    lease.lastSign = this.#model.clock.monotonicMs()
    this.#view.feed.changed(ref, 'transferProgress')
  }

  async complete(ref: LabRef): Promise<void> {
    const lease = this.#known(ref)
    if (!isOpen(lease)) throw invalidState('The lease has ended.')
    lease.state = 'done'
    this.#view.feed.changed(ref, 'state', 'info')
    if (lease.kind !== 'import' || lease.vm === undefined) return
    lease.vm.pending = undefined
    await this.#model.world.keep(lease.vm, 'config', 'summary', 'storage')
    lease.onEnd(undefined)
  }

  async abort(ref: LabRef, fault: VimFault | undefined): Promise<void> {
    const lease = this.#known(ref)
    if (!isOpen(lease)) throw invalidState('The lease has ended.')
    await this.#end(lease, fault ?? new VimFault('RequestCanceled', {}, 'The lease was aborted.'))
  }

  setChecksumTypes(ref: LabRef, types: readonly { key: string; type: string }[]): void {
    const lease = this.#known(ref)
    for (const { key, type } of types) {
      if (type !== 'sha1' && type !== 'sha256') throw invalidArgument('deviceUrlsToChecksumTypes')
      lease.checksums.set(key, type)
    }
  }

  manifest(ref: LabRef): LabObject[] {
    const lease = this.#known(ref)
    return lease.transfers.flatMap((transfer): LabObject[] => {
      if (transfer.done === undefined) return []
      const type = lease.checksums.get(transfer.key)
      return [
        {
          $type: 'HttpNfcLeaseManifestEntry',
          key: transfer.key,
          sha1: transfer.done.sha1,
          checksum: type === undefined ? undefined : type === 'sha256' ? transfer.done.sha256 : transfer.done.sha1,
          checksumType: type,
          size: transfer.done.size,
          disk: true,
          capacity: transfer.disk.capacity,
          populatedSize: transfer.done.populated,
        },
      ]
    })
  }

  /** Serves `/nfc/ID/disk-0.vmdk` and `/ha-nfc/…`. True when the path is one. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    const match = /^\/(?:ha-)?nfc\/([0-9a-f-]+)\/([^/?]+)$/.exec(decodeURI((request.url ?? '').split('?')[0] ?? ''))
    if (match === null) return false
    const lease = [...this.#leases.values()].find((candidate) => candidate.id === match[1])
    // The other endpoint may have it: each is asked in turn.
    if (lease === undefined) return false
    const transfer = lease.transfers.find((candidate) => candidate.name === match[2])
    if (lease.vm === undefined || transfer === undefined || lease.state !== 'ready') {
      response.writeHead(404).end()
      return true
    }
    const faults = await bodyFaults(
      this.#model,
      `nfc:${request.method ?? 'GET'}`,
      [...this.#model.names(lease.vm), transfer.name],
      this.#view.kind,
    )
    if (faults.status !== undefined) {
      request.resume()
      response.writeHead(faults.status).end()
    } else if (request.method === 'GET' && lease.kind === 'export') await this.#send(lease, lease.vm, transfer, response, faults)
    else if ((request.method === 'POST' || request.method === 'PUT') && lease.kind === 'import')
      await this.#receive(lease, lease.vm, transfer, request, response)
    else {
      request.resume()
      response.writeHead(405).end()
    }
    return true
  }

  async #send(lease: Lease, vm: VmRecord, transfer: Transfer, response: ServerResponse, faults: HttpFaults): Promise<void> {
    const machine = await this.#model.machine(vm)
    await machine.use(async () => {
      const link = transfer.disk.chain[0]
      if (link === undefined) throw new Error('a disk without a file')
      using view = machine.view(transfer.disk, link)
      const sha1 = createHash('sha1')
      const sha256 = createHash('sha256')
      let size = 0
      let whole = false
      const names = [...this.#model.names(vm), transfer.name]
      const quirks = this.#model.rules.strike({ on: 'nfc:GET', names, endpoint: this.#view.kind }, 'lease')
      const expire = (): Promise<void> => this.#end(lease, new VimFault('Timedout', {}, 'The lease timed out: no progress was reported.'))
      const counted = async function* (): AsyncGenerator<Uint8Array> {
        for await (const piece of exportStream(view, { name: transfer.name })) {
          sha1.update(piece)
          sha256.update(piece)
          size += piece.length
          yield piece
        }
        whole = true
      }
      response.writeHead(200, { 'content-type': 'application/x-vnd.vmware-streamVmdk' })
      lease.sending.add(response)
      const body = quirkyExport(faults.limit(counted(), response), quirks, response, expire)
      await pipeline(Readable.from(body, { objectMode: false }), response)
        .catch((error: unknown) => {
          this.#model.log.debug('an export was cut short', { vm: vm.config.name, error: String(error) })
        })
        .finally(() => lease.sending.delete(response))
      let populated = 0
      for (const area of view.allocated()) populated += area.length
      if (!whole || has(quirks, 'noManifest')) return
      const digests = { sha1: sha1.digest('hex'), sha256: sha256.digest('hex') }
      if (has(quirks, 'wrongDigest')) Object.assign(digests, { sha1: sha1OfNothing, sha256: sha256OfNothing })
      transfer.done = { ...digests, size: has(quirks, 'wrongSize') ? size + 1 : size, populated }
    })
    // Bytes that flow are no sign of life: only HttpNfcLeaseProgress is.
  }

  async #receive(lease: Lease, vm: VmRecord, transfer: Transfer, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const machine = await this.#model.machine(vm)
    const sha1 = createHash('sha1')
    const sha256 = createHash('sha256')
    let size = 0
    const counted = async function* (): AsyncGenerator<Uint8Array> {
      // A refused upload still gets an answer: the request must not go with its reader.
      for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        sha1.update(piece)
        sha256.update(piece)
        size += piece.length
        yield piece
      }
    }
    try {
      const populated = await machine.use(async () => {
        const open = machine.disk(transfer.disk.key)
        if (open === undefined) throw new Error('the disk is not open')
        return importStream(counted(), open)
      })
      transfer.done = { size, sha1: sha1.digest('hex'), sha256: sha256.digest('hex'), populated }
      lease.lastSign = this.#model.clock.monotonicMs()
      response.writeHead(201).end()
    } catch (error) {
      this.#model.log.info('an upload was refused', { vm: vm.config.name, error: String(error) })
      if (!response.headersSent && !response.destroyed) {
        response.writeHead(500, { 'content-type': 'text/plain' }).end(error instanceof Error ? error.message : 'refused')
        request.resume()
      }
    }
  }

  #open(
    kind: Lease['kind'],
    owner: LabSession,
    snapshot: SnapshotRecord | undefined,
    dispose: Lease['dispose'],
    quirks: readonly FaultRule[] = [],
  ): Lease {
    const number = this.#next++
    const id = this.#model.world.seeded.uuid('lease', this.#view.kind, number, this.#model.clock.now().getTime())
    const ref = labRef('HttpNfcLease', `session[${owner.key}]${id}`)
    const lease: Lease = {
      ref,
      id,
      kind,
      owner,
      snapshot,
      vm: undefined,
      state: 'initializing',
      error: undefined,
      progress: 0,
      lastSign: this.#model.clock.monotonicMs(),
      transfers: [],
      checksums: new Map(),
      sending: new Set(),
      quirks,
      dispose,
      onEnd: () => undefined,
    }
    this.#leases.set(ref.value, lease)
    if (this.#leases.size > 200) {
      const old = [...this.#leases].find(([, candidate]) => !isOpen(candidate))
      if (old !== undefined) this.#leases.delete(old[0])
    }
    return lease
  }

  async #initialise(lease: Lease, work: () => Promise<void>): Promise<void> {
    try {
      await this.#model.clock.sleep(this.#model.world.lab.scenario.taskMs)
      await work()
      if (lease.state === 'initializing') lease.state = 'ready'
      // It was ended while its VM was being made.
      else if (lease.kind === 'import' && lease.vm !== undefined) await lease.dispose(lease.vm)
    } catch (error) {
      lease.error = toVimFault(error)
      lease.state = 'error'
    }
    lease.lastSign = this.#model.clock.monotonicMs()
    this.#view.feed.changed(lease.ref, 'state', 'info', 'error', 'initializeProgress')
  }

  async #expire(): Promise<void> {
    const now = this.#model.clock.monotonicMs()
    for (const lease of this.#leases.values()) {
      const late = now - lease.lastSign > this.#model.world.lab.scenario.leaseTimeoutSeconds * 1000
      if (lease.state === 'ready' && late)
        await this.#end(lease, new VimFault('Timedout', {}, 'The lease timed out: no progress was reported.'))
    }
  }

  async #end(lease: Lease, fault: VimFault): Promise<void> {
    lease.state = 'error'
    lease.error = fault
    this.#view.feed.changed(lease.ref, 'state', 'error', 'info')
    for (const response of lease.sending) response.destroy()
    try {
      if (lease.kind === 'import' && lease.vm !== undefined) await lease.dispose(lease.vm)
    } finally {
      lease.onEnd(fault)
    }
  }

  #known(ref: LabRef): Lease {
    const lease = this.#leases.get(ref.value)
    if (lease === undefined) throw notFound(ref)
    return lease
  }

  #property(lease: Lease, name: string): LabValue {
    switch (name) {
      case 'state':
        return lease.state
      case 'initializeProgress':
        return lease.state === 'initializing' ? 0 : 100
      case 'transferProgress':
        return lease.progress
      case 'mode':
        return 'pushOrGet'
      case 'capabilities':
        return { $type: 'HttpNfcLeaseCapabilities', pullModeSupported: false, corsSupported: false }
      case 'error':
        return lease.error?.localized
      case 'info':
        return lease.state === 'initializing' || lease.vm === undefined ? undefined : this.#info(lease, lease.vm)
      default:
        return undefined
    }
  }

  #info(lease: Lease, vm: VmRecord): LabObject {
    const path = this.#view.kind === 'esxi' ? 'ha-nfc' : 'nfc'
    return {
      $type: 'HttpNfcLeaseInfo',
      lease: lease.ref,
      entity: this.#view.vmRef(vm),
      deviceUrl: lease.transfers.map((transfer) => ({
        $type: 'HttpNfcLeaseDeviceUrl',
        key: transfer.key,
        importKey: transfer.importKey,
        url: `${this.#host.base()}/${path}/${lease.id}/${transfer.name}`,
        sslThumbprint: has(lease.quirks, 'wrongThumbprint') ? Array(20).fill('AB').join(':') : this.#host.sslThumbprint(),
        disk: true,
        targetId: transfer.name,
        datastoreKey: '1',
      })),
      totalDiskCapacityInKB: Math.ceil(lease.transfers.reduce((sum, transfer) => sum + transfer.disk.capacity, 0) / 1024),
      leaseTimeout: this.#model.world.lab.scenario.leaseTimeoutSeconds,
      hostMap: [],
    }
  }
}

const has = (rules: readonly FaultRule[], quirk: LeaseQuirk): boolean => rules.some((rule) => rule.lease === quirk)

const sha1OfNothing = createHash('sha1').digest('hex')
const sha256OfNothing = createHash('sha256').digest('hex')

const isOpen = (lease: Lease): boolean => lease.state === 'initializing' || lease.state === 'ready'

const transferOf = (disk: DiskRecord, index: number, key: string, importKey: string): Transfer => ({
  disk,
  name: `disk-${index}.vmdk`,
  key,
  importKey,
  done: undefined,
})

/** `VirtualLsiLogicController0:1`-like names, from `scsi0:1`. */
const controllerName = (label: string): string => {
  const kind = {
    scsi: 'ParaVirtualSCSIController',
    sata: 'VirtualAHCIController',
    nvme: 'VirtualNVMEController',
    ide: 'VirtualIDEController',
  }[label.replace(/\d.*$/, '')]
  return `${kind ?? 'VirtualController'}${label.replace(/^\D+/, '')}`
}
