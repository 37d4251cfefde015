import { type Abortable, type JobId, type MoRef, parseMark } from '../core/index.ts'
import { data, decodeName, destroyVm, reconfigureVm, retrieveAll, retrieveMany, type Vsphere } from '../vsphere/index.ts'

/** A VM that a restored one takes the place of, and what the restored one is to be called then. */
export type Replacement = {
  /** Of the old VM. */
  readonly moref: string
  readonly name: string
  readonly annotation: string
}

/** The old VM's name while both are there; tells which VM took its place. */
const asideName = (name: string, by: MoRef): string => `${name} (replaced by ${by.value})`

/**
 * Brings a replacement to its end, forwards or back: the releaser of `replacedVm`, after success, failure and a crash alike. It runs when the
 * restored VM is either the user's (its own claim was kept) or gone (its claim was released), which is told by whether a VM carries the job's
 * mark. Then the old one steps aside by name, the restored one takes name and annotation, the old one is destroyed; or the old one gets its
 * name back. Idempotent at every step, so that a crash between any two is finished by the next call.
 */
export async function settleReplacement(vsphere: Vsphere, job: JobId, replacement: Replacement, options?: Abortable): Promise<void> {
  const { name, annotation } = replacement
  const old: MoRef = { type: 'VirtualMachine', value: replacement.moref }
  const oldName = await nameOf(vsphere, old, options)
  const restored = await restoredBy(vsphere, job, options)
  if (restored !== undefined) {
    // The old VM is first moved aside by name, so that there is no moment without one of the two.
    if (oldName === name) await rename(vsphere, old, asideName(name, restored), options)
    await reconfigureVm(vsphere, restored, data({ name, annotation }), { ...options, subject: name })
    if (oldName !== undefined) await destroyVm(vsphere, old, { ...options, subject: oldName })
    return
  }
  const by = oldName === undefined ? undefined : movedFor(oldName, name)
  if (oldName === undefined || by === undefined) return
  // Moved aside, and nothing carries the mark any more: the restored VM has its name already, or somebody has removed it.
  if ((await nameOf(vsphere, by, options)) === name) await destroyVm(vsphere, old, { ...options, subject: oldName })
  else await rename(vsphere, old, name, options)
}

/** The VM that took the place of one with this name; undefined for any other name. */
function movedFor(oldName: string, name: string): MoRef | undefined {
  const value = oldName.startsWith(`${name} (replaced by `) ? /\(replaced by ([^\s()]+)\)$/.exec(oldName)?.[1] : undefined
  return value === undefined ? undefined : { type: 'VirtualMachine', value }
}

async function nameOf(vsphere: Vsphere, vm: MoRef, options?: Abortable): Promise<string | undefined> {
  const [found] = await retrieveMany(vsphere, [vm], ['name'], options)
  const name = found?.props.get('name')?.text
  return name === undefined ? undefined : decodeName(name)
}

async function restoredBy(vsphere: Vsphere, job: JobId, options?: Abortable): Promise<MoRef | undefined> {
  for await (const { obj, props } of retrieveAll(vsphere, { type: 'VirtualMachine', paths: ['config.annotation'] }, options)) {
    if (parseMark('vm', props.get('config.annotation')?.text ?? '')?.job === job) return obj
  }
  return undefined
}

const rename = (vsphere: Vsphere, vm: MoRef, name: string, options?: Abortable): Promise<void> =>
  reconfigureVm(vsphere, vm, data({ name }), { ...options, subject: name })
