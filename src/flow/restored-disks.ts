import { AgentError, type DiskFacts, type Manifest } from '../core/index.ts'

/** The disks of a point that a restore takes: those with the given labels, or all. NOT_FOUND naming what the point has. */
export function chooseDisks(manifest: Manifest, labels: readonly string[]): readonly DiskFacts[] {
  if (labels.length === 0) return manifest.disks
  return labels.map((label) => {
    const disk = manifest.disks.find((each) => each.label === label || String(each.key) === label)
    if (disk !== undefined) return disk
    const missing = manifest.notProtected.find((each) => each.disk === label)
    const why = missing === undefined ? '' : `: it ${missing.reason}`
    throw new AgentError('NOT_FOUND', `The restore point has no disk ${label}${why}.`, {
      subject: label,
      next: `It has ${manifest.disks.map((each) => each.label).join(', ')}.`,
    })
  })
}

/** Disk label → VMDK file name as vSphere names them: `name.vmdk`, `name_1.vmdk`, … */
export function diskFileNames(base: string, disks: readonly DiskFacts[]): ReadonlyMap<string, string> {
  return new Map(disks.map((disk, index) => [disk.label, `${base}${index === 0 ? '' : `_${index}`}.vmdk`]))
}
