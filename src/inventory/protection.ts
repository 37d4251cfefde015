import { AgentError, type DiskRef, type NotProtected, type VmConfig } from '../core/index.ts'
import { globMatcher } from './pattern.ts'

/** What a snapshot of a VM holds, and what it cannot. */
export type Protection = { readonly disks: readonly DiskRef[]; readonly notProtected: readonly NotProtected[] }

/**
 * Which disks a snapshot holds, and why it does not hold the others. Pure.
 *
 * `config` is the VM before its snapshot, which names every disk. `frozen` is the snapshot's config: given that, `disks` are as frozen there, and a
 * disk of the VM that the snapshot left out is named, so that none is ever lost silently. `excludes`: `scsi0:1`, a device key, or a glob over
 * the disk's datastore path or its file name. USAGE when an exclude names no disk, so that a typing error is not found out at the restore.
 */
export function protectionOf(config: VmConfig, excludes: readonly string[] = [], frozen: VmConfig = config): Protection {
  const rules = excludes.map((text) => ({ text, matches: excludeMatcher(text), used: false }))
  const disks: DiskRef[] = []
  const notProtected: NotProtected[] = []
  for (const { disk, held, owner } of everyDisk(config, frozen)) {
    const matching = rules.filter(({ matches }) => matches(disk))
    for (const rule of matching) rule.used = true
    const exclude = matching[0]
    const reason = impossible(owner, disk)
    if (exclude !== undefined)
      notProtected.push({ disk: disk.label, reason: `excluded by ${JSON.stringify(exclude.text)}`, excluded: true })
    else if (reason !== undefined) notProtected.push({ disk: disk.label, reason })
    else if (held === undefined) notProtected.push({ disk: disk.label, reason: 'the snapshot does not hold it' })
    else disks.push(held)
  }
  const unused = rules.find(({ used }) => !used)
  if (unused !== undefined) {
    throw new AgentError('USAGE', `${JSON.stringify(unused.text)} names no disk of ${config.vm.name}.`, {
      subject: config.vm.name,
      next: `Its disks are ${config.disks.map(({ label, fileName }) => `${label} ${fileName}`).join(', ')}.`,
    })
  }
  return { disks, notProtected }
}

/** Disks of the VM with what the snapshot holds of each, then those that were added between reading the VM and freezing it. */
function everyDisk(
  config: VmConfig,
  frozen: VmConfig,
): readonly { readonly disk: DiskRef; readonly held: DiskRef | undefined; readonly owner: VmConfig }[] {
  const held = new Map(frozen.disks.map((disk) => [disk.key, disk]))
  const known = new Set(config.disks.map(({ key }) => key))
  return [
    ...config.disks.map((disk) => ({ disk, held: held.get(disk.key), owner: config })),
    ...frozen.disks.filter(({ key }) => !known.has(key)).map((disk) => ({ disk, held: disk, owner: frozen })),
  ]
}

/** Why no snapshot can hold this disk; undefined when one can. */
function impossible(config: VmConfig, disk: DiskRef): string | undefined {
  if (disk.backing === 'rdmPhysical') return 'raw device mapping in physical mode: no snapshot can hold it'
  if (disk.backing === 'raw') return 'raw disk: no snapshot can hold it'
  if (disk.backing === 'unknown') return 'its kind of backing is not known to this version'
  if (disk.diskMode.startsWith('independent_')) return `disk mode ${disk.diskMode}: snapshots leave it out`
  if (disk.diskMode === 'nonpersistent' || disk.diskMode === 'undoable') return `disk mode ${disk.diskMode}: its writes are thrown away`
  if (disk.sharing === 'sharingMultiWriter') return 'shared by several VMs (multi-writer): no snapshot can hold it'
  const bus = sharedBus(config, disk)
  if (bus !== undefined) return `on a SCSI bus shared with other VMs (${bus}): no snapshot can hold it`
  if (disk.fileName === '') return 'the server names no file for it'
  return undefined
}

function sharedBus(config: VmConfig, disk: DiskRef): string | undefined {
  const controllerKey = config.devices.find(({ key }) => key === disk.key)?.controllerKey
  const bus = config.devices.find(({ key }) => key === controllerKey)?.sharedBus
  return bus === undefined || bus === 'noSharing' ? undefined : bus
}

function excludeMatcher(text: string): (disk: DiskRef) => boolean {
  if (/^(scsi|ide|sata|nvme)\d+:\d+$/i.test(text)) return ({ label }) => label === text.toLowerCase()
  if (/^\d+$/.test(text)) return ({ key }) => key === Number(text)
  // The brackets of `[datastore]` are part of the path, not a set of characters.
  const matches = globMatcher(text.replace(/^\[([^\]]*)\]/, '\\[$1\\]'))
  return ({ chain, fileName }) => [fileName, ...chain].some((path) => matches(path) || matches(path.split('/').at(-1) ?? path))
}
