import { AgentError, type BlockSource, type DiskRef, silentLog, systemClock, type VmConfig } from '../../src/core/index.ts'
import { memorySource } from '../../src/disk/index.ts'
import { openPlanned, type SnapshotDisk, type Transport } from '../../src/transport/index.ts'
import { blockSourceContract } from './block-source-contract.ts'

const SIZE = 3 * 1024 * 1024 + 512

function picture(): Uint8Array {
  const image = new Uint8Array(SIZE)
  for (let at = 70_000; at < 2_000_000; at++) image[at] = 1 + ((at * 31 + (at >> 9)) % 255)
  return image
}

const vm = { moref: 'vm-1', name: 'a', instanceUuid: 'i', biosUuid: 'b', vcenterUuid: 'v', path: '/DC/vm/a' }
const disk: SnapshotDisk = {
  disk: { key: 2000, label: 'scsi0:0', capacityBytes: SIZE, fileName: '[ds] a/a.vmdk', chain: [] } as unknown as DiskRef,
  config: { vm } as VmConfig,
  snapshot: { vm, moref: 'snapshot-1', name: 's', createdAt: '2026-01-01T00:00:00Z', quiesced: false },
}

/** Over the same image; every `breaksAt`-th call on it fails like a cut connection. */
function transport(name: 'san' | 'https', breaksAt: number): Transport {
  let calls = 0
  const maybeBreak = (): void => {
    if (++calls % breaksAt === 0) throw new AgentError('UNAVAILABLE', `${name} was cut.`)
  }
  return {
    name,
    handles: () => ({ ok: true }),
    probe: async () => ({ ok: true }),
    open: async (): Promise<BlockSource> => {
      const inner = memorySource(picture())
      return {
        size: SIZE,
        read: async (offset, into, options) => {
          maybeBreak()
          await inner.read(offset, into, options)
        },
        async *extents(range, options) {
          for await (const extent of inner.extents(range, options)) {
            maybeBreak()
            yield extent
          }
        },
        [Symbol.asyncDispose]: async () => undefined,
      }
    },
  }
}

const planned = async (transports: readonly Transport[], attempts: number) => ({
  source: (
    await openPlanned(disk, transports, {
      log: silentLog,
      clock: systemClock,
      reopen: { attempts, lastAttempts: 20, delayMs: 0, maxDelayMs: 0 },
    })
  ).source,
  image: picture(),
})

blockSourceContract('a planned disk', () => planned([transport('san', Number.POSITIVE_INFINITY)], 3))
blockSourceContract('a planned disk whose transport breaks again and again', () => planned([transport('https', 3)], 3))
blockSourceContract('a planned disk that goes on with the next transport', () => planned([transport('san', 2), transport('https', 5)], 0))
