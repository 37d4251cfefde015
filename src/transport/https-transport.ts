import { type Abortable, AgentError, type BlockSource, type Verdict } from '../core/index.ts'
import { type ByteSource, type DiskFiles, openChain } from '../disk/index.ts'
import { type DatastoreFiles, datacenterOf, openDatastoreFiles, type Vsphere, vmMoRef } from '../vsphere/index.ts'
import { insideDatastore, resolveReference } from './datastore-path.ts'
import { judgedByFiles } from './judged.ts'
import type { PresentDisk, Transport } from './transport.ts'
import { hasFile, inClear, verifyDisk } from './verify-disk.ts'

/** One request reads at most this much; larger reads are split and run side by side. Bytes. */
const REQUEST_BYTES = 4 * 1024 * 1024
/** Requests under way at once for one read: enough to hide latency, few enough for a host's web server. */
const PARALLEL_REQUESTS = 4

/**
 * Reads the frozen files over datastore HTTP (`/folder` with ranges), through vCenter or straight from the host. Works where the host lets
 * the parents of a snapshot be read and its web server answers 206; the probe finds out per disk.
 */
export function httpsTransport(vsphere: Vsphere): Transport {
  const openVerified = async (disk: PresentDisk, options?: Abortable): Promise<BlockSource> => {
    const clear = inClear(disk.config)
    if (!clear.ok) throw new AgentError('CONFIG', `${clear.reason}.`, { next: 'Read it over nbdssl.' })
    const datacenter = await datacenterOf(vsphere, vmMoRef(disk.config.vm), options)
    const chain = await openChain(disk.disk.fileName, datastoreDiskFiles(openDatastoreFiles(vsphere, datacenter), disk), options)
    try {
      verifyDisk(chain, disk.disk, (location) => location)
      return chain
    } catch (error) {
      await chain[Symbol.asyncDispose]()
      throw error
    }
  }
  const probe = (disk: PresentDisk, options?: Abortable): Promise<Verdict> =>
    judgedByFiles(disk, async () => {
      const source = await openVerified(disk, options)
      await source[Symbol.asyncDispose]()
      return `datastore files from ${vsphere.host}`
    })
  return {
    name: 'https',
    handles: hasFile,
    probe,
    foresee: probe,
    open: openVerified,
  }
}

/** The files of a disk chain on its datastores; locations are datastore paths. */
function datastoreDiskFiles(files: DatastoreFiles, { config }: PresentDisk): DiskFiles {
  return {
    resolve: async (reference, from) => resolveReference(reference, from, config.datastores),
    open: async (location, options) => {
      insideDatastore(location)
      const { size, ranges } = await files.stat(location, options)
      if (!ranges) {
        throw new AgentError('UNAVAILABLE', `The server sends ${location} only whole, not in ranges.`, {
          subject: location,
          retry: 'never',
          next: 'Use another transport, or connect to the ESXi host itself.',
        })
      }
      return rangedFile(files, location, size)
    },
  }
}

/** A datastore file as bytes. Reads beyond `REQUEST_BYTES` go out as several requests side by side. */
function rangedFile(files: DatastoreFiles, location: string, size: number): ByteSource {
  let closed = false
  return {
    name: location,
    size,
    read: async (offset, into, options) => {
      if (closed) throw new AgentError('INTERNAL', `${location} is closed.`, { subject: location })
      if (offset + into.length > size) {
        throw new AgentError('INTEGRITY', `${location} ends at byte ${size}, before the ${into.length} bytes at ${offset}.`, {
          subject: location,
        })
      }
      for (let start = 0; start < into.length; start += REQUEST_BYTES * PARALLEL_REQUESTS) {
        const requests: Promise<void>[] = []
        for (let at = start; at < Math.min(into.length, start + REQUEST_BYTES * PARALLEL_REQUESTS); at += REQUEST_BYTES) {
          requests.push(files.readRange(location, offset + at, into.subarray(at, Math.min(into.length, at + REQUEST_BYTES)), options))
        }
        // All are awaited, so that none still writes into the caller's buffer after this has thrown.
        for (const result of await Promise.allSettled(requests)) if (result.status === 'rejected') throw result.reason
      }
    },
    [Symbol.asyncDispose]: async () => {
      closed = true
    },
  }
}
