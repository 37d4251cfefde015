import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  invalidArgument,
  type LabObject,
  type LabRef,
  labRef,
  type LabSession,
  type ManagedObject,
  notFound,
  toVimFault,
  VimFault,
} from '../wire/index.ts'
import type { FaultRule } from './fault-rules.ts'
import { invalidPowerState, invalidState, taskInProgress } from './faults.ts'
import { bodyFaults } from './http-faults.ts'
import { type LeaseHost, leaseManifest, leaseProperty, type LeaseView } from './lease-answers.ts'
import { controllerName, hasQuirk, isOpen, type Lease, transferOf } from './lease-record.ts'
import { receiveDisk, sendDisk } from './lease-transfer.ts'
import type { Model } from './model.ts'
import { diskLabel, disksOf, isIndependent, type SnapshotRecord, type VmRecord } from './record.ts'
import type { View } from './view.ts'

const IMPORT_TASK = 'ResourcePool.ImportVAppLRO'

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

  get #shown(): LeaseView {
    return { view: this.#view, host: this.#host, timeoutSeconds: this.#model.world.lab.scenario.leaseTimeoutSeconds }
  }

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
    return lease === undefined ? undefined : { ref: lease.ref, property: (name) => leaseProperty(lease, name, this.#shown) }
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
        .filter((disk, index) => !isIndependent(disk) && disk.rdm !== 'physical' && (index > 0 || !hasQuirk(quirks, 'missingDisk')))
        .map((disk, index) => transferOf(disk, index, `/${this.#view.vmRef(vm).value}/${controllerName(diskLabel(config, disk))}`, ''))
    })
    return lease.ref
  }

  /** `create` gives the VM's record to `shown` before anybody can see the VM: from then on the lease holds it. */
  importVm(
    session: LabSession,
    pool: LabRef,
    create: (shown: (vm: VmRecord) => void) => Promise<LabRef>,
    dispose: (vm: VmRecord) => Promise<void>,
  ): LabRef {
    const lease = this.#open('import', session, undefined, dispose)
    const initialised = this.#initialise(lease, async () => {
      const made = await create((vm) => {
        lease.vm = vm
        this.#showImport(lease, this.#view.vmRef(vm))
      })
      const config = lease.vm?.config
      if (config === undefined) throw notFound(pool)
      lease.transfers = disksOf(config).map((disk, index) =>
        transferOf(
          disk,
          index,
          `/${made.value}/${controllerName(diskLabel(config, disk))}`,
          `/${config.name}/${controllerName(diskLabel(config, disk))}`,
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
    return leaseManifest(this.#known(ref))
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
    const at = { model: this.#model, lease, vm: lease.vm }
    if (faults.status !== undefined) {
      request.resume()
      response.writeHead(faults.status).end()
    } else if (request.method === 'GET' && lease.kind === 'export')
      await sendDisk({ ...at, view: this.#view, expire: () => this.#endLate(lease) }, transfer, response, faults)
    else if ((request.method === 'POST' || request.method === 'PUT') && lease.kind === 'import')
      await receiveDisk(at, transfer, request, response)
    else {
      request.resume()
      response.writeHead(405).end()
    }
    return true
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
      else if (lease.state === 'error') await this.#dispose(lease, lease.error)
    } catch (error) {
      lease.error = toVimFault(error)
      lease.state = 'error'
      lease.onEnd(lease.error)
    }
    lease.lastSign = this.#model.clock.monotonicMs()
    this.#view.feed.changed(lease.ref, 'state', 'info', 'error', 'initializeProgress')
  }

  async #expire(): Promise<void> {
    const now = this.#model.clock.monotonicMs()
    for (const lease of this.#leases.values()) {
      const late = now - lease.lastSign > this.#model.world.lab.scenario.leaseTimeoutSeconds * 1000
      if (lease.state === 'ready' && late) await this.#endLate(lease)
    }
  }

  #endLate(lease: Lease): Promise<void> {
    return this.#end(lease, new VimFault('Timedout', {}, 'The lease timed out: no progress was reported.'))
  }

  async #end(lease: Lease, fault: VimFault): Promise<void> {
    const initialising = lease.state === 'initializing'
    lease.state = 'error'
    lease.error = fault
    this.#view.feed.changed(lease.ref, 'state', 'error', 'info')
    for (const response of lease.sending) response.destroy()
    // What is half made is taken away once it is made.
    if (!initialising) await this.#dispose(lease, fault)
  }

  async #dispose(lease: Lease, fault: VimFault | undefined): Promise<void> {
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
}
