import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { exportStream, importStream } from '../storage/index.ts'
import type { HttpFaults } from './http-faults.ts'
import { quirkyExport } from './lease-quirks.ts'
import { hasQuirk, type Lease, type Transfer } from './lease-record.ts'
import type { Model } from './model.ts'
import type { VmRecord } from './record.ts'
import type { View } from './view.ts'

const sha1OfNothing = createHash('sha1').digest('hex')
const sha256OfNothing = createHash('sha256').digest('hex')

export type Receiving = { readonly model: Model; readonly lease: Lease; readonly vm: VmRecord }
export type Sending = Receiving & { readonly view: View; readonly expire: () => Promise<void> }

/** Sends one disk as a streamOptimized VMDK. */
export async function sendDisk(to: Sending, transfer: Transfer, response: ServerResponse, faults: HttpFaults): Promise<void> {
  const { model, view: shown, lease, vm, expire } = to
  const machine = await model.machine(vm)
  await machine.use(async () => {
    const link = transfer.disk.chain[0]
    if (link === undefined) throw new Error('a disk without a file')
    using view = machine.view(transfer.disk, link)
    const sha1 = createHash('sha1')
    const sha256 = createHash('sha256')
    let size = 0
    let whole = false
    const names = [...model.names(vm), transfer.name]
    const quirks = model.rules.strike({ on: 'nfc:GET', names, endpoint: shown.kind }, 'lease')
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
        model.log.debug('an export was cut short', { vm: vm.config.name, error: String(error) })
      })
      .finally(() => lease.sending.delete(response))
    let populated = 0
    for (const area of view.allocated()) populated += area.length
    if (!whole || hasQuirk(quirks, 'noManifest')) return
    const digests = { sha1: sha1.digest('hex'), sha256: sha256.digest('hex') }
    if (hasQuirk(quirks, 'wrongDigest')) Object.assign(digests, { sha1: sha1OfNothing, sha256: sha256OfNothing })
    transfer.done = { ...digests, size: hasQuirk(quirks, 'wrongSize') ? size + 1 : size, populated }
  })
  // Bytes that flow are no sign of life: only HttpNfcLeaseProgress is.
}

/** Takes one disk as a streamOptimized VMDK; what does not fit is answered with 500. */
export async function receiveDisk(to: Receiving, transfer: Transfer, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { model, lease, vm } = to
  const machine = await model.machine(vm)
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
    lease.lastSign = model.clock.monotonicMs()
    response.writeHead(201).end()
  } catch (error) {
    model.log.info('an upload was refused', { vm: vm.config.name, error: String(error) })
    if (!response.headersSent && !response.destroyed) {
      response.writeHead(500, { 'content-type': 'text/plain' }).end(error instanceof Error ? error.message : 'refused')
      request.resume()
    }
  }
}
