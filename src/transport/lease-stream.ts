import { createHash } from 'node:crypto'
import { type Abortable, AgentError, anySignal, isAgentError, type SnapshotRef } from '../core/index.ts'
import { ddbValue, decodeStreamOptimized, type StreamGrain } from '../disk/index.ts'
import {
  askSha256,
  beginExport,
  type ChecksumType,
  labelOfLeaseKey,
  type LeaseDevice,
  leaseManifest,
  type NfcLease,
  openExport,
  type Vsphere,
} from '../vsphere/index.ts'
import type { GrainStream } from './lease-source.ts'
import type { OpenOptions, SnapshotDisk } from './transport.ts'
import { sameUuid } from './verify-disk.ts'

/**
 * Takes an export lease on the snapshot and begins to download one disk of it: the disk is found in the lease by its place, and its header, capacity
 * and uuid are verified before this resolves. Disposal ends the download and gives the lease back. Errors: UNAVAILABLE, CONFLICT (another lease, a
 * task), AUTH (privilege, certificate of the host), INTEGRITY (another disk).
 */
export async function openLeaseStream(vsphere: Vsphere, disk: SnapshotDisk, options: OpenOptions): Promise<GrainStream> {
  const { claims } = options
  if (claims === undefined) throw new AgentError('INTERNAL', 'The transport lease was given no claims to hold its lease by.')
  const { snapshot, config } = disk
  const subject = config.vm.name
  await using stack = new AsyncDisposableStack()
  const closing = new AbortController()
  const signal = anySignal(options.signal, closing.signal)
  const claim = stack.use(
    await claims.take('exportLease', { vm: config.vm, snapshot: snapshot.moref }, async () => {
      const begun = await beginExport(vsphere, snapshotRef(snapshot), { signal: options.signal, subject })
      return { lease: begun.value }
    }),
  )
  const lease = stack.use(await openExport(vsphere, { type: 'HttpNfcLease', value: claim.ref.lease }, { signal, subject }))
  const device = deviceOf(lease, disk)
  const checksum = await askSha256(vsphere, lease, device, { signal })
  const count = { bytes: 0, hash: createHash(checksum) }
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of lease.download(device, { signal })) {
      count.bytes += chunk.length
      count.hash.update(chunk)
      yield chunk
    }
  }
  const name = `${disk.disk.label} in the export of ${subject}`
  const decoded = await decodeStreamOptimized(counted(), name, { signal }).catch((error: unknown) => {
    throw inThisWay(error, name)
  })
  const grains = decoded.grains()[Symbol.asyncIterator]()
  stack.defer(async () => {
    // A download that stalls would otherwise be waited for.
    closing.abort(new AgentError('CANCELED', `The export of ${subject} was closed.`))
    await grains.return?.()
  })
  verify(disk, decoded.capacityBytes, decoded.descriptor === undefined ? undefined : ddbValue(decoded.descriptor, 'ddb.uuid'))
  const held = stack.move()
  return {
    next: async (): Promise<StreamGrain | undefined> => {
      try {
        const next = await grains.next()
        if (next.done !== true) {
          lease.progress((next.value.offset / decoded.capacityBytes) * 100)
          return next.value
        }
      } catch (error) {
        throw inThisWay(error, name)
      }
      await prove(vsphere, lease, device, { name, bytes: count.bytes, digest: count.hash.digest('hex'), checksum }, { signal })
      await lease.complete({ signal })
      return undefined
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

const snapshotRef = (snapshot: SnapshotRef): { type: string; value: string } => ({
  type: 'VirtualMachineSnapshot',
  value: snapshot.moref,
})

function deviceOf(lease: NfcLease, { disk, config }: SnapshotDisk): LeaseDevice {
  const found = lease.devices.find((device) => device.disk && labelOfLeaseKey(device.key) === disk.label)
  if (found !== undefined) return found
  const named = lease.devices.map((device) => labelOfLeaseKey(device.key) ?? device.key).join(', ')
  throw new AgentError('UNAVAILABLE', `The export lease on ${config.vm.name} has no disk ${disk.label} (it has ${named || 'none'}).`, {
    subject: disk.label,
    retry: 'never',
  })
}

function verify({ disk }: SnapshotDisk, capacity: number, uuid: string | undefined): void {
  const what =
    capacity !== disk.capacityBytes
      ? `it holds ${capacity} bytes, vSphere says ${disk.capacityBytes}`
      : sameUuid(uuid, disk.uuid)
        ? undefined
        : `its uuid is ${uuid}, vSphere says ${disk.uuid}`
  if (what === undefined) return
  throw new AgentError('INTEGRITY', `What the export lease sends is not ${disk.label} (${disk.fileName}): ${what}.`, {
    subject: disk.fileName,
    next: 'Run the backup again; if it stays so, report it with the log.',
  })
}

/**
 * What the error of a stream means for the disk. A stream that was cut may be asked for again, one with a damaged grain is no way to this disk; both
 * leave what came before right. One that contradicts itself takes everything with it.
 */
function inThisWay(error: unknown, name: string): unknown {
  if (!isAgentError(error, 'INTEGRITY') || error.retry === 'never') return error
  return new AgentError('UNAVAILABLE', error.message, {
    subject: name,
    retry: error.retry === 'now' ? 'now' : 'never',
    cause: error,
  })
}

type Received = {
  readonly name: string
  readonly bytes: number
  readonly digest: string
  readonly checksum: ChecksumType
}

/** Compares the transfer with the manifest the server made of it. A server that keeps none has its stream's own tables to prove it. INTEGRITY. */
async function prove(vsphere: Vsphere, lease: NfcLease, device: LeaseDevice, received: Received, options: Abortable): Promise<void> {
  const entry = (await leaseManifest(vsphere, lease, options)).find(({ key }) => key === device.key)
  if (entry === undefined) {
    vsphere.log.debug('the server keeps no manifest of the export', { disk: received.name })
    return
  }
  const sha256 = entry.checksumType?.toLowerCase() === 'sha256' ? entry.checksum : undefined
  const wanted = received.checksum === 'sha256' ? sha256 : entry.sha1
  const differs =
    entry.size !== 0 && entry.size !== received.bytes
      ? `${received.bytes} bytes came, the manifest says ${entry.size}`
      : wanted !== undefined && wanted !== '' && wanted.toLowerCase() !== received.digest
        ? `its ${received.checksum} is ${received.digest}, the manifest says ${wanted}`
        : undefined
  if (differs === undefined) return
  throw new AgentError('INTEGRITY', `What came of ${received.name} is not what the server sent: ${differs}.`, {
    subject: received.name,
    next: 'Run the backup again; if it stays so, read this disk another way (--transport nbdssl).',
  })
}
