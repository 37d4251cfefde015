import { Readable } from 'node:stream'
import { type Abortable, AgentError, anySignal, type MoRef } from '../core/index.ts'
import { connectionError } from './connection-error.ts'
import { faultError } from './fault-error.ts'
import { drainText, HttpClient } from './http-client.ts'
import { retrieveMany, retrieveOne } from './property-collector.ts'
import { decodeLocalizedFault } from './soap.ts'
import { exactly, piece, StallWatch } from './stall-watch.ts'
import { parsePin } from './trust.ts'
import { isFault } from './vim-fault.ts'
import type { VimNode } from './vim-node.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** One HttpNfcLeaseDeviceUrl. */
export type LeaseDevice = {
  /** `/vm-4681/ParaVirtualSCSIController0:0`: identifies the device in the manifest and in CreateDescriptor. */
  readonly key: string
  /** On import: the fileItem's deviceId. */
  readonly importKey: string
  /** As the server gave it; `*` stands for the host we are connected to. */
  readonly url: string
  /** SHA-1 of the certificate the url's host shows. */
  readonly thumbprint: string | undefined
  readonly disk: boolean
  readonly targetId: string | undefined
  /** Bytes; set for what is no disk. */
  readonly fileSize: number | undefined
}

/**
 * A lease that is ready, kept alive until completed or disposed. Disposal of an import without `complete` aborts it, which deletes its VM; an export
 * is its claim's to end (`endExport`).
 */
export interface NfcLease extends AsyncDisposable {
  readonly moref: MoRef
  /** The VM or snapshot exported, or the VM being made. */
  readonly entity: MoRef | undefined
  readonly devices: readonly LeaseDevice[]
  /** Sum of the disks' capacities, bytes. */
  readonly totalBytes: number
  /** Shown in vCenter's task; per cent. */
  progress(percent: number): void
  /** A disk as a stream-optimized VMDK of unknown length; a cut means reading it again from the start. UNAVAILABLE, AUTH. */
  download(device: LeaseDevice, options?: Abortable): AsyncIterable<Uint8Array>
  /** POST of a stream-optimized VMDK, PUT of any other file; `size` when it is known. UNAVAILABLE, CAPACITY. */
  upload(device: LeaseDevice, body: AsyncIterable<Uint8Array>, size: number | undefined, options?: Abortable): Promise<void>
  complete(options?: Abortable): Promise<void>
}

const POLL_MS = 500
const READY_MS = 5 * 60_000
/** Longest pause between two progress calls; the lease itself lasts 300 s on real systems. */
const RENEW_MS = 30_000
const STALL_MS = 300_000

/**
 * ExportSnapshot: asks for a lease on the disks as of a snapshot, whether the VM runs or not, and gives its reference at once; `openExport` waits
 * for it. One lease a VM at a time, and no snapshot, power or removal of the VM meanwhile. CONFLICT, AUTH (VApp.Export).
 */
export async function beginExport(vsphere: Vsphere, snapshot: MoRef, options?: CallOptions): Promise<MoRef> {
  return leaseRef(vsphere, await vsphere.call('ExportSnapshot', snapshot, {}, options), options)
}

/** ExportVm: the disks as they are now; the VM must be off. As `beginExport`. */
export async function beginVmExport(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<MoRef> {
  return leaseRef(vsphere, await vsphere.call('ExportVm', vm, {}, options), options)
}

/** Waits until an export's lease is ready and keeps it alive until disposed; whoever began the export ends it. UNAVAILABLE, CONFLICT. */
export async function openExport(vsphere: Vsphere, lease: MoRef, options?: CallOptions): Promise<NfcLease> {
  return new Lease(vsphere, lease, await info(vsphere, lease, options), { subject: options?.subject, abortUnlessDone: false })
}

/** Ends an export by its reference, from any session. One that is over, or that only its own session can see, counts as ended. */
export async function endExport(vsphere: Vsphere, lease: MoRef, options?: CallOptions): Promise<void> {
  try {
    await vsphere.call('HttpNfcLeaseAbort', lease, {}, options)
  } catch (error) {
    if (isFault(error, 'ManagedObjectNotFound', 'Timedout')) return
    if (isFault(error, 'NoPermission')) {
      vsphere.log.warn('a lease of another session cannot be aborted; it ends by itself', { host: vsphere.host, lease: lease.value })
      return
    }
    if (!isFault(error, 'InvalidState')) throw error
    const [found] = await retrieveMany(vsphere, [lease], ['state'], options)
    const state = found?.props.get('state')?.text
    if (state === 'ready' || state === 'initializing') throw error
  }
}

/** Waits until an import's lease is ready and keeps it alive from then on. Aborts it when that fails. */
export async function openImport(vsphere: Vsphere, answer: readonly VimNode[], options?: CallOptions): Promise<NfcLease> {
  const moref = leaseRef(vsphere, answer, options)
  try {
    return new Lease(vsphere, moref, await info(vsphere, moref, options), { subject: options?.subject, abortUnlessDone: true })
  } catch (error) {
    await abort(vsphere, moref)
    throw error
  }
}

function leaseRef(vsphere: Vsphere, answer: readonly VimNode[], options?: CallOptions): MoRef {
  const moref = answer[0]?.asRef()
  if (moref === undefined) throw new AgentError('INTEGRITY', `${vsphere.host} gave no lease.`, { subject: options?.subject })
  return moref
}

async function info(vsphere: Vsphere, lease: MoRef, options?: CallOptions): Promise<VimNode> {
  const deadline = vsphere.clock.monotonicMs() + READY_MS
  for (;;) {
    const { props } = await retrieveOne(vsphere, lease, ['state', 'info', 'error'], { ...options, subject: `the lease ${lease.value}` })
    const state = props.get('state')?.text
    const found = props.get('info')
    if (state === 'ready' && found !== undefined) return found
    const failed = props.get('error')
    if (failed !== undefined) throw faultError(decodeLocalizedFault(failed), 'The lease', vsphere.host, options?.subject)
    if (state !== 'initializing')
      throw new AgentError('UNAVAILABLE', `The lease ${lease.value} ended before it was used (${state ?? 'no state'}).`)
    if (vsphere.clock.monotonicMs() > deadline)
      throw new AgentError('UNAVAILABLE', `The lease ${lease.value} was not ready within 5 minutes.`)
    await vsphere.clock.sleep(POLL_MS, options)
  }
}

/** An expired or finished lease is what an abort wants. */
async function abort(vsphere: Vsphere, lease: MoRef): Promise<void> {
  try {
    await vsphere.call('HttpNfcLeaseAbort', lease)
  } catch (error) {
    vsphere.log.warn('a lease was not aborted; it ends by itself', {
      host: vsphere.host,
      lease: lease.value,
      error: error instanceof Error ? error.message : String(error),
    })
  }
}

export function parseLeaseDevice(node: VimNode): LeaseDevice {
  return {
    key: node.string('key') ?? '',
    importKey: node.string('importKey') ?? '',
    url: node.string('url') ?? '',
    thumbprint: node.string('sslThumbprint') === '' ? undefined : node.string('sslThumbprint'),
    disk: node.boolean('disk') ?? /\.vmdk$/i.test(node.string('targetId') ?? node.string('url') ?? ''),
    targetId: node.string('targetId'),
    fileSize: node.number('fileSize'),
  }
}

class Lease implements NfcLease {
  readonly moref: MoRef
  readonly entity: MoRef | undefined
  readonly devices: readonly LeaseDevice[]
  readonly totalBytes: number
  readonly #vsphere: Vsphere
  readonly #subject: string | undefined
  readonly #abortUnlessDone: boolean
  readonly #keepAlive: Disposable
  /** Aborted when the server says that the lease is over: what is still transferred then ends with that reason. */
  readonly #over = new AbortController()
  readonly #clients = new Map<string, HttpClient>()
  #percent = 0
  #done = false

  constructor(
    vsphere: Vsphere,
    moref: MoRef,
    node: VimNode,
    options: { readonly subject: string | undefined; readonly abortUnlessDone: boolean },
  ) {
    this.#vsphere = vsphere
    this.#subject = options.subject
    this.#abortUnlessDone = options.abortUnlessDone
    this.moref = moref
    this.entity = node.ref('entity')
    this.devices = node.all('deviceUrl').map(parseLeaseDevice)
    this.totalBytes = (node.number('totalDiskCapacityInKB') ?? 0) * 1024
    const timeout = (node.number('leaseTimeout') ?? 300) * 1000
    this.#keepAlive = vsphere.clock.every(
      Math.max(1000, Math.min(RENEW_MS, timeout / 4)),
      () => this.#renew(),
      (error) => {
        vsphere.log.warn('the lease was not renewed', {
          lease: moref.value,
          error: error instanceof Error ? error.message : String(error),
        })
        if (isFault(error, 'Timedout', 'InvalidState', 'ManagedObjectNotFound')) this.#over.abort(this.#isOver())
      },
    )
  }

  progress(percent: number): void {
    this.#percent = Math.max(0, Math.min(100, Math.floor(percent)))
  }

  async *download(device: LeaseDevice, options?: Abortable): AsyncGenerator<Uint8Array> {
    const { client, path, cookie } = this.#route(device)
    const signal = anySignal(options?.signal, this.#over.signal)
    const answer = await client.send({ method: 'GET', path, headers: cookie, timeoutMs: STALL_MS }, { signal })
    if (answer.status !== 200) throw this.#refused(device, answer.status, await drainText(answer))
    try {
      yield* answer.body as AsyncIterable<Uint8Array>
    } catch (error) {
      throw connectionError(error, client.host, signal)
    }
  }

  async upload(device: LeaseDevice, body: AsyncIterable<Uint8Array>, size: number | undefined, options?: Abortable): Promise<void> {
    const { client, path, cookie } = this.#route(device)
    const what = `The upload of ${device.targetId ?? device.importKey}`
    using watch = new StallWatch(this.#vsphere.clock, what, STALL_MS, options)
    const counted = size === undefined ? touching(body, watch) : exactly(body, size, what, watch)
    const headers = {
      ...cookie,
      ...(device.disk
        ? { 'content-type': 'application/x-vnd.vmware-streamVmdk' }
        : { 'content-type': 'application/octet-stream', overwrite: 't' }),
      ...(size === undefined ? {} : { 'content-length': String(size) }),
    }
    const answer = await client.send(
      {
        method: device.disk ? 'POST' : 'PUT',
        path,
        headers,
        body: Readable.from(counted, { objectMode: false }),
        timeoutMs: 0,
        changes: device.disk ? 'POST disk' : 'PUT file',
      },
      { signal: watch.signal },
    )
    const text = await drainText(answer)
    if (answer.status !== 200 && answer.status !== 201 && answer.status !== 204) throw this.#refused(device, answer.status, text)
  }

  async complete(options?: Abortable): Promise<void> {
    this.progress(100)
    await this.#renew()
    await this.#vsphere.call('HttpNfcLeaseComplete', this.moref, {}, { ...options, subject: this.#subject })
    this.#done = true
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#keepAlive[Symbol.dispose]()
    if (!this.#done && this.#abortUnlessDone) await abort(this.#vsphere, this.moref)
    for (const client of this.#clients.values()) await client[Symbol.asyncDispose]()
  }

  #isOver(): AgentError {
    return new AgentError('UNAVAILABLE', `The lease on ${this.#subject ?? this.moref.value} ended while its disks were transferred.`, {
      subject: this.#subject ?? this.moref.value,
    })
  }

  async #renew(): Promise<void> {
    await this.#vsphere.call('HttpNfcLeaseProgress', this.moref, { percent: this.#percent })
  }

  /**
   * The url goes straight to an ESXi host. Ours (`*`, or the same host and port) is trusted as the session is; another one by the thumbprint
   * that came over the verified session, or by a CA.
   */
  #route(device: LeaseDevice): { readonly client: HttpClient; readonly path: string; readonly cookie: Readonly<Record<string, string>> } {
    const { http } = this.#vsphere
    const { endpoint, trust } = http
    const url = URL.parse(device.url.replace(/^https:\/\/\*(:\d+)?(?=\/)/, endpoint.origin))
    if (url?.protocol !== 'https:')
      throw new AgentError('INTEGRITY', `The lease names an address that cannot be used: ${JSON.stringify(device.url)}.`)
    const path = `${url.pathname}${url.search}`
    const origin = `https://${url.hostname}:${url.port === '' ? 443 : url.port}`
    if (origin === endpoint.origin) return { client: http.client, path, cookie: { cookie: http.cookie() } }
    const known = this.#clients.get(origin)
    const client =
      known ?? new HttpClient(origin, { pin: device.thumbprint === undefined ? undefined : parsePin(device.thumbprint), ca: trust.ca }, 4)
    this.#clients.set(origin, client)
    return { client, path, cookie: {} }
  }

  #refused(device: LeaseDevice, status: number, text: string): AgentError {
    const said = text
      .replaceAll(/<[^>]*>/g, ' ')
      .replaceAll(/\s+/g, ' ')
      .trim()
      .slice(0, 120)
    const full = /no space|disk full/i.test(said) || status === 507
    return new AgentError(
      full ? 'CAPACITY' : 'UNAVAILABLE',
      `The transfer of ${device.targetId ?? device.key} was refused with HTTP status ${status}${said === '' ? '' : ` (${said})`}.`,
      {
        subject: this.#subject ?? device.key,
        retry: 'later',
      },
    )
  }
}

async function* touching(body: AsyncIterable<Uint8Array>, watch: StallWatch): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    watch.touch()
    await piece(chunk)
    yield chunk
  }
}
