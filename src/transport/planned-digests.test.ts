import { describe, expect, test } from 'vitest'
import { AgentError, type DiskRef, silentLog, systemClock, type TransportName, type VmConfig } from '../core/index.ts'
import { memorySource } from '../disk/index.ts'
import { openPlanned, type PlannedDisk } from './planned-disk.ts'
import type { BlockDigest, OpenDisk, SnapshotDisk, Transport } from './transport.ts'

const BLOCK = 512
const BLOCKS = 16
const SIZE = BLOCK * BLOCKS
const vm = { moref: 'vm-1', name: 'a', instanceUuid: 'i', biosUuid: 'b', vcenterUuid: 'v', path: '/DC/vm/a' }
const disk: SnapshotDisk = {
  disk: { key: 2000, label: 'scsi0:0', capacityBytes: SIZE, fileName: '[ds] a/a.vmdk', chain: [] } as unknown as DiskRef,
  config: { vm } as VmConfig,
  snapshot: { vm, moref: 'snapshot-1', name: 's', createdAt: '2026-01-01T00:00:00Z', quiesced: false },
}

/** A transport whose n-th opened disk tells `tells[n]` digests and then fails; without a number for it, it has none at all. */
function transport(
  name: TransportName,
  tells: readonly number[],
  error = new AgentError('UNAVAILABLE', `${name} broke.`),
): Transport & { opens: number } {
  const state = { opens: 0 }
  return Object.assign(state, {
    name,
    handles: () => ({ ok: true }) as const,
    probe: async () => ({ ok: true }) as const,
    open: async (): Promise<OpenDisk> => {
      const most = tells[state.opens++]
      const inner = memorySource(new Uint8Array(SIZE))
      const source: OpenDisk = {
        size: SIZE,
        read: (offset, into) => inner.read(offset, into),
        extents: (range) => inner.extents(range),
        [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
      }
      if (most === undefined) return source
      return {
        ...source,
        async *digests(range, blockSize): AsyncGenerator<BlockDigest> {
          for (let told = 0; told * blockSize < range.length; told++) {
            if (told === most) throw error
            yield { offset: range.offset + told * blockSize, length: blockSize, kind: 'digest', sha256: new Uint8Array(32) }
          }
        },
      }
    },
  })
}

const open = (...transports: Transport[]): Promise<PlannedDisk> =>
  openPlanned(disk, transports, { log: silentLog, clock: systemClock, reopen: { attempts: 3, lastAttempts: 3, delayMs: 0, maxDelayMs: 0 } })

async function offsets(planned: PlannedDisk): Promise<number[]> {
  const all: number[] = []
  for await (const { offset } of planned.digests?.({ offset: 0, length: SIZE }, BLOCK) ?? []) all.push(offset)
  return all
}
const ALL = Array.from({ length: BLOCKS }, (_, index) => index * BLOCK)

describe('digests of a planned disk', () => {
  test('are there only where the transport that has the disk open tells them', async () => {
    const planned = await open(transport('https', []), transport('ssh', [BLOCKS]))
    await using _source = planned.source
    expect(planned.digests).toBeUndefined()
  })

  test('go on where they broke, over the same transport opened again', async () => {
    const broken = transport('ssh', [5, 1, BLOCKS])
    const planned = await open(broken)
    await using _source = planned.source
    expect(await offsets(planned)).toEqual(ALL)
    expect([broken.opens, planned.resumed, planned.refused]).toEqual([3, 2, []])
  })

  test('are given up when nothing comes twice in a row; the disk can be read as before', async () => {
    const broken = transport('ssh', [5, 0, BLOCKS])
    const planned = await open(broken, transport('https', []))
    await using source = planned.source
    await expect(offsets(planned)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: 'ssh broke.' })
    await source.read(0, new Uint8Array(BLOCK))
    expect([planned.transport, planned.refused]).toEqual(['ssh', []])
  })

  test('an answer that is wrong is not asked for again', async () => {
    const lying = transport('ssh', [5, BLOCKS], new AgentError('INTEGRITY', 'The digest is short.'))
    const planned = await open(lying)
    await using _source = planned.source
    await expect(offsets(planned)).rejects.toMatchObject({ code: 'INTEGRITY' })
    expect(lying.opens).toBe(1)
  })

  test('end where the disk goes on over a transport that has none', async () => {
    const planned = await open(transport('ssh', [5]), transport('https', []))
    await using source = planned.source
    // Opened again, this ssh has lost its hashing program.
    await expect(offsets(planned)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: 'ssh broke.' })
    await source.read(0, new Uint8Array(BLOCK))
  })
})
