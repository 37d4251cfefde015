import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import {
  type Abortable,
  AgentError,
  type BlockSource,
  createIds,
  type DiskFacts,
  type DiskRef,
  type Extent,
  isZero,
  MIB,
  type PointId,
  type Range,
  rangeEnd,
  type VmConfig,
} from '../../src/core/index.ts'
import { copyDisk, createRawFile } from '../../src/disk/index.ts'
import type { BackupProvider, DiskPlan, DiskWritten, PointFacts } from '../../src/provider/index.ts'

const GRAIN = 64 * 1024
const ids = createIds()

export function vmConfig(name: string, disks: readonly DiskRef[], uuid = '50 1a'): VmConfig {
  const vm = { moref: 'vm-42', name, instanceUuid: `uuid-${uuid}`, biosUuid: 'bios', vcenterUuid: 'vc-1', path: `/DC/vm/${name}` }
  return {
    vm,
    powerState: 'poweredOn',
    connectionState: 'connected',
    isTemplate: false,
    guestId: 'otherGuest64',
    guestFullName: 'Other',
    hardwareVersion: 'vmx-14',
    firmware: 'bios',
    numCpu: 1,
    memoryMb: 512,
    annotation: '',
    vmPathName: `[ds] ${name}/${name}.vmx`,
    changeTrackingSupported: true,
    changeTrackingEnabled: true,
    toolsRunning: true,
    consolidationNeeded: false,
    snapshotCount: 1,
    disks,
    devices: [],
    extraConfig: { 'guestinfo.test': 'ü' },
    host: { moref: 'host-1', name: 'esx1' },
    datastores: [],
    encrypted: false,
  }
}

export function diskRef(key: number, size: number, fileName = `[ds] vm/vm-${key}.vmdk`): DiskRef {
  return {
    key,
    label: `scsi0:${key - 2000}`,
    capacityBytes: size,
    backing: 'flat',
    diskMode: 'persistent',
    fileName,
    chain: [fileName],
    uuid: '6000C29a-1111-2222-3333-444455556666',
    changeId: `52 de ad/${key}`,
    thin: true,
  }
}

/** A disk in memory that writes down what is read of it, and refuses to be read where it says there are zeros, or twice. */
export class WatchedDisk implements BlockSource {
  readonly bytes: Buffer
  readonly reads: Range[] = []
  failAt: number | undefined
  onRead: (() => void) | undefined

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  get size(): number {
    return this.bytes.length
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve))
    options?.signal?.throwIfAborted()
    this.onRead?.()
    if (this.failAt !== undefined && offset + into.length > this.failAt) throw new AgentError('UNAVAILABLE', 'The wire was cut.')
    this.reads.push({ offset, length: into.length })
    into.set(this.bytes.subarray(offset, offset + into.length))
  }

  async *extents(range: Range): AsyncGenerator<Extent> {
    for (let offset = range.offset; offset < rangeEnd(range); ) {
      const end = Math.min(rangeEnd(range), (Math.floor(offset / GRAIN) + 1) * GRAIN)
      yield { offset, length: end - offset, kind: isZero(this.bytes.subarray(offset, end)) ? 'zero' : 'data' }
      offset = end
    }
  }

  get readBytes(): number {
    return this.reads.reduce((sum, range) => sum + range.length, 0)
  }

  /** Fails when a byte was read twice, or anything outside `allowed`, or where the map says zero. */
  expectReadsWithin(allowed: readonly Range[]): void {
    const seen = [...this.reads].sort((a, b) => a.offset - b.offset)
    let end = 0
    for (const read of seen) {
      expect(read.offset, 'read twice').toBeGreaterThanOrEqual(end)
      end = rangeEnd(read)
      expect(
        allowed.some((range) => read.offset >= range.offset && end <= rangeEnd(range)),
        `read ${read.offset}+${read.length}`,
      ).toBe(true)
      for (let grain = Math.ceil(read.offset / GRAIN) * GRAIN; grain + GRAIN <= end; grain += GRAIN) {
        expect(isZero(this.bytes.subarray(grain, grain + GRAIN)), `zeros read at ${grain}`).toBe(false)
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve()
  }
}

/** Reproducible bytes that neither compress nor repeat. */
export function noise(length: number, seed: number | string): Buffer {
  const blocks: Buffer[] = []
  for (let at = 0; at < length; at += 32) blocks.push(createHash('sha256').update(`${seed}/${at}`).digest())
  return Buffer.concat(blocks).subarray(0, length)
}

/** A disk of `size` bytes with noise in the given ranges. */
export function patterned(size: number, parts: readonly Range[], seed: number | string = 1): Buffer {
  const bytes = Buffer.alloc(size)
  for (const { offset, length } of parts) noise(length, `${seed}/${offset}`).copy(bytes, offset)
  return bytes
}

export const whole = (size: number): Range[] => [{ offset: 0, length: size }]

export async function* streamed(ranges: readonly Range[]): AsyncGenerator<Range> {
  for (const range of ranges) yield await Promise.resolve(range)
}

export const plan = (mode: DiskPlan['mode'], ranges: readonly Range[], readAround?: boolean): DiskPlan => ({
  mode,
  ranges: streamed(ranges),
  readAround,
})

export function facts(
  mode: DiskPlan['mode'],
  disks: readonly { readonly disk: DiskRef; readonly written: DiskWritten; readonly mode?: DiskPlan['mode'] }[],
): PointFacts {
  return {
    mode,
    consistency: 'crash',
    consistencyReason: 'asked for',
    notProtected: [{ disk: 'scsi0:9', reason: 'independent disk' }],
    disks: disks.map(
      ({ disk, written, mode: own }): DiskFacts => ({
        key: disk.key,
        label: disk.label,
        capacityBytes: disk.capacityBytes,
        fileName: disk.fileName,
        uuid: disk.uuid,
        changeId: disk.changeId,
        thin: disk.thin,
        mode: own ?? mode,
        modeReason: 'asked for',
        transport: 'san',
        transportReason: 'test',
        refused: [],
        ...written,
      }),
    ),
  }
}

let moment = Date.UTC(2026, 10, 22, 18, 0, 0)
/** A time later than the last one given. */
export const nextTime = (): string => new Date((moment += 61_000)).toISOString()

export type DiskToPut = {
  readonly disk: DiskRef
  readonly source: BlockSource
  readonly ranges?: readonly Range[]
  readonly mode?: DiskPlan['mode']
  readonly readAround?: boolean
}

/** Writes one point of a VM, all disks at once, with a small `.vmx` beside them. */
export async function writePoint(
  provider: BackupProvider,
  disks: readonly DiskToPut[],
  options: { readonly parent?: PointId; readonly name?: string; readonly uuid?: string; readonly time?: string } = {},
): Promise<{ readonly id: PointId; readonly written: readonly DiskWritten[] }> {
  const mode = options.parent === undefined ? 'full' : 'incremental'
  const config = vmConfig(
    options.name ?? 'web01',
    disks.map(({ disk }) => disk),
    options.uuid,
  )
  const request = { config, run: ids.run(), time: options.time ?? nextTime(), parent: options.parent }
  await using writer = await provider.begin(request)
  await writer.putFile('web01.vmx', Buffer.from('displayName = "web01"\n'))
  const written = await Promise.all(
    disks.map(({ disk, source, ranges, mode: own, readAround }) =>
      writer.putDisk(disk, source, plan(own ?? mode, ranges ?? whole(source.size), readAround)),
    ),
  )
  const reported = disks.map(({ disk, mode: own }, index) => ({ disk, written: written[index] as DiskWritten, mode: own ?? mode }))
  const { id } = await writer.commit(facts(mode, reported))
  return { id, written }
}

/** Reads a disk whole through its map, in odd pieces, and checks that the map is gapless and never calls data zero. */
export async function readAll(source: BlockSource, step = 300_000): Promise<Buffer> {
  const bytes = Buffer.alloc(source.size, 0xee)
  for (let offset = 0; offset < source.size; offset += step) {
    await source.read(offset, bytes.subarray(offset, Math.min(source.size, offset + step)))
  }
  let next = 0
  for await (const extent of source.extents({ offset: 0, length: source.size })) {
    expect(extent.offset).toBe(next)
    expect(extent.kind).not.toBe('absent')
    next = rangeEnd(extent)
    if (extent.kind === 'zero') expect(isZero(bytes.subarray(extent.offset, next)), `extent ${extent.offset} is not zero`).toBe(true)
  }
  expect(next).toBe(source.size)
  return bytes
}

export async function expectPoint(provider: BackupProvider, id: PointId, disks: ReadonlyMap<number, Buffer>): Promise<void> {
  if (provider.points === undefined) throw new Error('no points')
  await using reader = await provider.points.open(id)
  expect(new Set(reader.manifest.disks.map(({ key }) => key))).toEqual(new Set(disks.keys()))
  for (const [key, bytes] of disks) {
    await using disk = await reader.disk(key)
    expect(disk.size).toBe(bytes.length)
    const read = await readAll(disk)
    expect(read.equals(bytes), `disk ${key} of ${id}`).toBe(true)
    expect((await rawFileOf(disk)).equals(bytes), `disk ${key} of ${id} in a file`).toBe(true)
  }
}

/** What a restore to a raw file makes of a disk; some providers write it by threads of their own. */
async function rawFileOf(disk: BlockSource): Promise<Buffer> {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-raw-'))
  try {
    await using file = await createRawFile(join(directory, 'disk'), disk.size)
    await copyDisk(disk, file)
    return await readFile(join(directory, 'disk'))
  } finally {
    await rm(directory, { recursive: true })
  }
}

export const collect = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

export const BLOCK = MIB
