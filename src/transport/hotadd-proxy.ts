import type { Abortable, MoRef, VmRef } from '../core/index.ts'
import { findVms, type VmHardware, vmHardware, type Vsphere } from '../vsphere/index.ts'
import type { ProxyGuest } from './hotadd-guest.ts'

/** The VM that this process runs in. */
export type ProxyVm = { readonly moref: MoRef; readonly ref: VmRef; readonly vmPathName: string; readonly hardware: VmHardware }

/**
 * The proxy VM: the one VM of this vCenter that has the SMBIOS uuid of this machine; where several have it, the one the configuration names. A
 * configured name only ever chooses among those, so that no other VM is taken for this machine. A refusal is a clause.
 */
export async function findProxy(vsphere: Vsphere, guest: ProxyGuest, options?: Abortable): Promise<ProxyVm | { readonly refusal: string }> {
  const identity = await guest.identity()
  if (identity.refusal !== undefined) return { refusal: identity.refusal }
  const found = new Map<string, MoRef>()
  for (const instance of [false, true]) {
    for (const uuid of identity.uuids) {
      for (const vm of await findVms(vsphere, { by: 'uuid', uuid, instance }, options)) found.set(vm.value, vm)
    }
    if (found.size > 0) break
  }
  if (found.size === 0) return { refusal: `this machine (SMBIOS uuid ${identity.uuids[0]}) is no VM of ${vsphere.host}` }
  const { proxy } = guest.options
  const candidates: ProxyVm[] = []
  for (const moref of found.values()) candidates.push(asProxy(vsphere, moref, await vmHardware(vsphere, moref, options)))
  const named = proxy === undefined ? candidates : candidates.filter((candidate) => goesBy(candidate, proxy))
  const [only, ...more] = named
  const names = candidates.map(({ ref }) => ref.name).join(', ')
  if (only === undefined) return { refusal: `this machine is the VM ${names}, not the configured proxy ${proxy}` }
  if (more.length > 0) return { refusal: `${named.length} VMs have this machine's SMBIOS uuid (${names}); hotadd.proxy has to name one` }
  return only
}

function asProxy(vsphere: Vsphere, moref: MoRef, hardware: VmHardware): ProxyVm {
  const { name, instanceUuid, biosUuid, vmPathName } = hardware
  const ref = { moref: moref.value, name, instanceUuid, biosUuid, vcenterUuid: vsphere.about.instanceUuid, path: name }
  return { moref, ref, vmPathName, hardware }
}

const goesBy = ({ ref }: ProxyVm, wanted: string): boolean =>
  [ref.name, ref.moref].includes(wanted) || [ref.instanceUuid, ref.biosUuid].some((uuid) => uuid.toLowerCase() === wanted.toLowerCase())
