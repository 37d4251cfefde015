import { realpath } from 'node:fs/promises'
import {
  type Abortable,
  AgentError,
  type BlockSink,
  type BlockSource,
  type DiskRef,
  type Marks,
  toAgentError,
  type Verdict,
  type VmConfig,
} from '../core/index.ts'
import { openFlat, openLocalFile, openRawDevice } from '../disk/index.ts'
import { HOTADD_PRIVILEGES, missingPrivileges, vmHardware, vmMoRef, type Vsphere } from '../vsphere/index.ts'
import { uuidDigits } from './disk-uuid.ts'
import { attachRefusal } from './hotadd-attach.ts'
import { AttachedDisks, type DiskUse } from './hotadd-disks.ts'
import type { ProxyGuest } from './hotadd-guest.ts'
import { findProxy, type ProxyVm } from './hotadd-proxy.ts'
import type { OpenOptions, SnapshotDisk, TargetDisk, Transport } from './transport.ts'
import { canBeWritten } from './target-disk.ts'
import { hasFile } from './verify-disk.ts'

/**
 * Attaches the frozen disk to the VM this process runs in and reads it there as a SCSI or NVMe disk (docs/hotadd.md): independent and nonpersistent, so that
 * not even a write of the guest reaches the file. The host reads the chain of redo logs, so one device is the complete disk.
 */
export function hotaddTransport(vsphere: Vsphere, options: { readonly guest: ProxyGuest; readonly marks: Marks }): Transport {
  const { guest } = options
  const attached = new AttachedDisks({ vsphere, ...options })
  let proxy: Promise<ProxyVm | { readonly refusal: string }> | undefined

  const findUsable = async (): Promise<ProxyVm | { readonly refusal: string }> => {
    const found = await findProxy(vsphere, guest)
    if ('refusal' in found) return found
    const missing = (await missingPrivileges(vsphere, found.moref, HOTADD_PRIVILEGES)) ?? []
    return missing.length === 0 ? found : { refusal: `${vsphere.user} lacks ${missing.join(', ')} on the proxy VM ${found.ref.name}` }
  }

  /** Looked up once a run, for all disks, so under no one's signal; again when vSphere could not be asked. */
  const findOnce = (): NonNullable<typeof proxy> => {
    proxy ??= findUsable().catch((error: unknown) => {
      proxy = undefined
      throw error
    })
    return proxy
  }

  /** The proxy VM as it is now, and why it cannot take this disk. */
  const refusalOf = async (config: VmConfig, disk: DiskRef, abort?: Abortable): Promise<ProxyVm | { readonly refusal: string }> => {
    const handled = hasFile(disk)
    if (!handled.ok) return { refusal: handled.reason }
    const found = await findOnce()
    if ('refusal' in found) return found
    if (uuidDigits(disk.uuid) === undefined)
      return { refusal: `vSphere names no uuid of ${disk.label}, by which it could be found in the guest` }
    if (config.encrypted) return { refusal: `${config.vm.name} is encrypted, and its disks open only in a VM that has their keys` }
    if (found.ref.moref === config.vm.moref) return { refusal: `${config.vm.name} is this proxy itself` }
    const hardware = await vmHardware(vsphere, found.moref, abort)
    const refusal = attachRefusal(hardware, await guest.disks(), disk)
    return refusal === undefined ? { ...found, hardware } : { refusal }
  }

  const probe = async ({ config, disk }: TargetDisk, abort?: Abortable): Promise<Verdict> => {
    try {
      const found = await refusalOf(config, disk, abort)
      return 'refusal' in found ? { ok: false, reason: found.refusal } : { ok: true, note: `attached to ${found.ref.name}` }
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
      return { ok: false, reason: shown.message }
    }
  }

  const use = async (
    { config, disk }: TargetDisk,
    mode: 'independent_nonpersistent' | 'persistent',
    open?: OpenOptions,
  ): Promise<DiskUse> => {
    const found = await findOnce()
    if ('refusal' in found)
      throw new AgentError('UNAVAILABLE', `hotadd cannot be used: ${found.refusal}.`, { subject: disk.label, retry: 'never' })
    const look = async (): Promise<ProxyVm> => ({ ...found, hardware: await vmHardware(vsphere, found.moref, open) })
    return attached.use(look, config.vm.name, disk, mode, open?.claims, open)
  }

  /** A host lets the file of a VM that is off be attached for writing whatever stands on it, so the VM is looked at as it is now. */
  const refuseUnwritable = async (target: TargetDisk, abort?: Abortable): Promise<void> => {
    const { config, disk } = target
    const known = canBeWritten(target)
    const { disks } = await vmHardware(vsphere, vmMoRef(config.vm), abort)
    const now = disks.some((each) => each.fileName === disk.fileName && each.chain.length <= 1)
    if (known.ok && now) return
    const reason = known.ok ? `${config.vm.name} has another disk in its place now` : known.reason
    throw new AgentError('CONFLICT', `${disk.label} cannot be attached for writing: ${reason}.`, { subject: disk.fileName })
  }

  return {
    name: 'hotadd',
    local: true,
    handles: hasFile,
    probe,
    foresee: probe,
    async open(target: SnapshotDisk, open?: OpenOptions): Promise<BlockSource> {
      await using stack = new AsyncDisposableStack()
      const { device } = stack.use(await use(target, 'independent_nonpersistent', open))
      const source = stack.use(await openDevice(guest.path(device), target.disk))
      const held = stack.move()
      return {
        size: source.size,
        read: (offset, into, reading) => source.read(offset, into, reading),
        extents: (range, reading) => source.extents(range, reading),
        [Symbol.asyncDispose]: () => held.disposeAsync(),
      }
    },
    writing: {
      probe: async (target: TargetDisk, abort?: Abortable): Promise<Verdict> => {
        const possible = canBeWritten(target)
        return possible.ok ? probe(target, abort) : possible
      },
      async open(target: TargetDisk, open?: OpenOptions): Promise<BlockSink> {
        await using stack = new AsyncDisposableStack()
        await refuseUnwritable(target, open)
        const { device } = stack.use(await use(target, 'persistent', open))
        const sink = stack.use(await openRawDevice(await realpath(guest.path(device)), target.disk.capacityBytes))
        const held = stack.move()
        return {
          size: sink.size,
          write: (offset, data, writing) => sink.write(offset, data, writing),
          zero: (range, writing) => sink.zero(range, writing),
          flush: (writing) => sink.flush(writing),
          [Symbol.asyncDispose]: () => held.disposeAsync(),
        }
      },
    },
  }
}

/** The node at `path`, which has to be as large as the disk. */
async function openDevice(path: string, disk: DiskRef): Promise<BlockSource> {
  const bytes = await openLocalFile(await realpath(path), { devices: true })
  if (bytes.size === disk.capacityBytes) return openFlat(bytes)
  await bytes[Symbol.asyncDispose]()
  throw new AgentError('INTEGRITY', `${path} has ${bytes.size} bytes, but ${disk.fileName} has ${disk.capacityBytes}.`, {
    subject: disk.fileName,
    next: 'Compare the disks of the proxy VM in vSphere with those its guest shows.',
  })
}
