/**
 * One backup of one VM through the product's own rooms (disk → provider → restic repository), as a process of its own, so that its CPU and memory can be
 * measured. `node bench/backup-disk.ts --repository R --password-file F --cache D [--parent POINT --changed FILE] VMDK...`; the disks go side by side, as those of a
 * VM do. `--changed` names a JSON list of ranges, read from the first disk, nothing from the others. Prints one line of JSON.
 */
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import { createIds, type DiskRef, type PointId, systemClock, type Range, type VmConfig } from '../src/core/index.ts'
import { localDiskFiles, openChain } from '../src/disk/index.ts'
import { openRepository } from './open-repository.ts'

/** What the measuring side reads from the last line of standard output. */
export type DiskBackup = {
  readonly point: string
  readonly changedBytes: number
  readonly readBytes: number
  readonly storedBytes: number
}

type Request = {
  readonly repository: string
  readonly passwordFile: string
  readonly cache: string
  readonly parent: PointId | undefined
  readonly changed: readonly Range[] | undefined
}

async function backUp(vmdks: readonly string[], { repository, passwordFile, cache, parent, changed }: Request): Promise<DiskBackup> {
  await using opened = new AsyncDisposableStack()
  const sources = await Promise.all(vmdks.map((vmdk) => openChain(vmdk, localDiskFiles())))
  for (const source of sources) opened.use(source)
  await using provider = await openRepository(repository, passwordFile, cache)
  const disks = sources.map((source, index) => diskRef(vmdks[index] ?? '', index, source.size))
  const mode = parent === undefined ? 'full' : 'incremental'
  const time = systemClock.now().toISOString()
  await using writer = await provider.begin({ config: vmConfig(disks), run: createIds().run(), time, parent })
  const written = await Promise.all(
    disks.map(async (disk, index) => {
      const source = sources[index]
      if (source === undefined) throw new Error('a disk is missing')
      const ranges = changed === undefined ? allocated(source) : listed(index === 0 ? changed : [])
      return { disk, put: await writer.putDisk(disk, source, { mode, ranges, readAround: true }) }
    }),
  )
  const { id } = await writer.commit({
    mode,
    consistency: 'crash',
    consistencyReason: 'a file at rest',
    notProtected: [],
    disks: written.map(({ disk, put }) => ({
      key: disk.key,
      label: disk.label,
      capacityBytes: disk.capacityBytes,
      fileName: disk.fileName,
      changeId: '52 00 00 00 00 00 00 00-00 00 00 00 00 00 00 01/1',
      thin: true,
      mode,
      modeReason: 'benchmark',
      transport: 'san',
      transportReason: 'a local file',
      refused: [],
      ...put,
    })),
  })
  const sum = (of: 'changedBytes' | 'readBytes' | 'storedBytes'): number => written.reduce((all, { put }) => all + put[of], 0)
  return { point: id, changedBytes: sum('changedBytes'), readBytes: sum('readBytes'), storedBytes: sum('storedBytes') }
}

async function* allocated(source: Awaited<ReturnType<typeof openChain>>): AsyncGenerator<Range> {
  for await (const { offset, length, kind } of source.extents({ offset: 0, length: source.size }))
    if (kind === 'data') yield { offset, length }
}

async function* listed(ranges: readonly Range[]): AsyncGenerator<Range> {
  yield* ranges
}

function diskRef(vmdk: string, index: number, capacityBytes: number): DiskRef {
  const fileName = `[bench] bench/${basename(vmdk)}`
  return {
    key: 2000 + index,
    label: `scsi0:${index}`,
    capacityBytes,
    backing: 'flat',
    diskMode: 'persistent',
    fileName,
    chain: [fileName],
    thin: true,
    uuid: `6000C290-0000-0000-0000-00000000000${index + 1}`,
  }
}

function vmConfig(disks: readonly DiskRef[]): VmConfig {
  const uuid = '50000000-0000-4000-8000-000000000001'
  return {
    vm: { moref: 'vm-1', name: 'bench', instanceUuid: uuid, biosUuid: uuid, vcenterUuid: uuid, path: '/bench/vm/bench' },
    powerState: 'poweredOff',
    connectionState: 'connected',
    isTemplate: false,
    guestId: 'otherLinux64Guest',
    guestFullName: 'Other Linux (64-bit)',
    hardwareVersion: 'vmx-13',
    firmware: 'bios',
    numCpu: 1,
    memoryMb: 1024,
    annotation: '',
    vmPathName: '[bench] bench/bench.vmx',
    changeTrackingSupported: true,
    changeTrackingEnabled: true,
    toolsRunning: false,
    consolidationNeeded: false,
    snapshotCount: 0,
    disks,
    devices: [],
    extraConfig: {},
    host: { moref: 'host-1', name: 'bench' },
    datastores: [],
    encrypted: false,
  }
}

const { values, positionals } = parseArgs({
  options: {
    repository: { type: 'string' },
    'password-file': { type: 'string' },
    cache: { type: 'string' },
    parent: { type: 'string' },
    changed: { type: 'string' },
  },
  allowPositionals: true,
})
const { repository, 'password-file': passwordFile, cache, parent, changed } = values
if (repository === undefined || passwordFile === undefined || cache === undefined || positionals.length === 0)
  throw new Error('Usage: node bench/backup-disk.ts --repository R --password-file F --cache D [--parent POINT --changed FILE] VMDK...')
const ranges = changed === undefined ? undefined : (JSON.parse(readFileSync(changed, 'utf8')) as Range[])
console.log(
  JSON.stringify(await backUp(positionals, { repository, passwordFile, cache, parent: parent as PointId | undefined, changed: ranges })),
)
