import { AgentError, type DiskRef, type Verdict, type VmConfig } from '../core/index.ts'
import type { DiskChain } from '../disk/index.ts'
import { uuidDigits } from './disk-uuid.ts'

const DISK_BACKINGS: readonly DiskRef['backing'][] = ['flat', 'seSparse', 'sparse']

/** Whether a disk of this kind lies in files that can be read, and is one that a snapshot freezes: no raw device, nothing that other VMs write to. */
export function hasFile(disk: DiskRef): Verdict {
  if (!DISK_BACKINGS.includes(disk.backing)) return { ok: false, reason: `${disk.label} is backed by ${disk.backing}, which is not a file` }
  if (disk.sharing === 'sharingMultiWriter') return { ok: false, reason: `${disk.label} is shared by several writers` }
  if (disk.sharedBus !== undefined) return { ok: false, reason: `${disk.label} is on a bus shared with other VMs (${disk.sharedBus})` }
  return { ok: true }
}

/** Whether the files of a VM hold the bytes of its disks: those of an encrypted VM hold ciphertext, and only its host can read them. */
export function inClear({ encrypted, vm }: VmConfig): Verdict {
  return encrypted ? { ok: false, reason: `${vm.name} is encrypted, and its files hold ciphertext` } : { ok: true }
}

/**
 * Proves that an opened chain is the disk vSphere speaks of, before a byte of it is trusted: same capacity, same uuid where both say one,
 * same links in the same order. A directory mapped to the wrong datastore, or an old copy of one, is caught here.
 * `nameOf` turns a link's location into a datastore path. Errors: INTEGRITY.
 */
export function verifyDisk(chain: DiskChain, disk: DiskRef, nameOf: (location: string) => string | undefined): void {
  const next = 'Check that the datastore is mapped to the directory where that very datastore is mounted.'
  const fail = (what: string): never => {
    throw new AgentError('INTEGRITY', `The files of ${disk.label} (${disk.fileName}) are not the disk vSphere describes: ${what}.`, {
      subject: disk.fileName,
      next,
    })
  }
  if (chain.size !== disk.capacityBytes) fail(`they hold ${chain.size} bytes, vSphere says ${disk.capacityBytes}`)
  const uuid = chain.links[0]?.descriptor.ddb.get('ddb.uuid') ?? chain.links.at(-1)?.descriptor.ddb.get('ddb.uuid')
  if (!sameUuid(uuid, disk.uuid)) fail(`their uuid is ${uuid}, vSphere says ${disk.uuid}`)
  const links = chain.links.map((link) => nameOf(link.location) ?? link.location)
  if (disk.chain.length > 0 && (links.length !== disk.chain.length || links.some((name, index) => name !== disk.chain[index]))) {
    fail(`their chain is ${links.join(' ← ')}, vSphere says ${disk.chain.join(' ← ')}`)
  }
}

/** False only when both name a uuid and they differ. */
export function sameUuid(a: string | undefined, b: string | undefined): boolean {
  const [one, other] = [uuidDigits(a), uuidDigits(b)]
  return one === undefined || other === undefined || one === other
}
