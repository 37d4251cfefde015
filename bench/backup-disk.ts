/**
 * One backup of one VMDK through the product's own rooms (disk → provider → restic repository), as a process of its own, so that its CPU and
 * memory can be measured. `node bench/backup-disk.ts VMDK REPOSITORY PASSWORD_FILE [PARENT CHANGED.json]` prints one line of JSON.
 */
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
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

async function backUp(vmdk: string, repository: string, passwordFile: string, parent?: string, changed?: string): Promise<DiskBackup> {
  await using source = await openChain(vmdk, localDiskFiles())
  await using provider = await openRepository(repository, passwordFile)
  const disk = diskRef(vmdk, source.size)
  const mode = parent === undefined ? 'full' : 'incremental'
  const time = systemClock.now().toISOString()
  await using writer = await provider.begin({ config: vmConfig(disk), run: createIds().run(), time, parent: parent as PointId | undefined })
  const ranges = changed === undefined ? allocated(source) : listed(JSON.parse(readFileSync(changed, 'utf8')) as Range[])
  const written = await writer.putDisk(disk, source, { mode, ranges })
  const { id } = await writer.commit({
    mode,
    consistency: 'crash',
    consistencyReason: 'a file at rest',
    notProtected: [],
    disks: [
      {
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
        ...written,
      },
    ],
  })
  return { point: id, ...written }
}

async function* allocated(source: Awaited<ReturnType<typeof openChain>>): AsyncGenerator<Range> {
  for await (const { offset, length, kind } of source.extents({ offset: 0, length: source.size }))
    if (kind === 'data') yield { offset, length }
}

async function* listed(ranges: readonly Range[]): AsyncGenerator<Range> {
  yield* ranges
}

function diskRef(vmdk: string, capacityBytes: number): DiskRef {
  const fileName = `[bench] bench/${basename(vmdk)}`
  return {
    key: 2000,
    label: 'scsi0:0',
    capacityBytes,
    backing: 'flat',
    diskMode: 'persistent',
    fileName,
    chain: [fileName],
    thin: true,
    uuid: '6000C290-0000-0000-0000-000000000001',
  }
}

function vmConfig(disk: DiskRef): VmConfig {
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
    disks: [disk],
    devices: [],
    extraConfig: {},
    host: { moref: 'host-1', name: 'bench' },
    datastores: [],
    encrypted: false,
  }
}

const [vmdk, repository, passwordFile, parent, changed] = process.argv.slice(2)
if (vmdk === undefined || repository === undefined || passwordFile === undefined) {
  throw new Error('Usage: node bench/backup-disk.ts VMDK REPOSITORY PASSWORD_FILE [PARENT CHANGED.json]')
}
console.log(JSON.stringify(await backUp(vmdk, repository, passwordFile, parent, changed)))
