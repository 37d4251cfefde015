import { isIP } from 'node:net'
import { type Abortable, AgentError, type VmRef } from '../core/index.ts'
import { findVms, type Vsphere } from '../vsphere/index.ts'
import { parseUuid } from './expression.ts'
import { byPath, type ScannedVm, scanVms } from './vm-scan.ts'

/** The search specification of the VCB commands (`-a`, `-s`): one of these, never several. */
export type SearchSpecification =
  /** Every VM, or those in a power state: may name any number. */
  | { readonly by: 'any' }
  | { readonly by: 'powerState'; readonly value: 'poweredOn' | 'poweredOff' | 'suspended' }
  /** Meant to name one: display name, reference, BIOS uuid, address or DNS name of the guest. */
  | { readonly by: LookupMethod; readonly value: string }

/** What a specification without a prefix may be taken for, as VM_LOOKUP_METHOD says it. */
export const LOOKUP_METHODS = ['name', 'moref', 'uuid', 'ipaddr'] as const
export type LookupMethod = (typeof LOOKUP_METHODS)[number]

const POWER_STATES: ReadonlyMap<string, 'poweredOn' | 'poweredOff' | 'suspended'> = new Map([
  ['on', 'poweredOn'],
  ['off', 'poweredOff'],
  ['suspended', 'suspended'],
])

export type FoundVm = {
  readonly vm: VmRef
  readonly isTemplate: boolean
  /** The guest's address as VMware Tools tell it; undefined when they do not. */
  readonly address: string | undefined
}

/**
 * Reads `name:web1`, `moref:vm-57`, `uuid:…`, `ipaddr:…`, `powerstate:on|off|suspended`, `any:` (also `any`, `Any:`, `any:*`). The prefix counts
 * without case, the rest exactly as it stands. Without a known prefix `lookup` is the prefix; USAGE when there is none, and for any wrong value.
 */
export function parseSearchSpecification(text: string, lookup?: LookupMethod): SearchSpecification {
  if (/^any(?::\*?)?$/i.test(text)) return { by: 'any' }
  const [, prefix = '', rest = ''] = /^([a-z]+):(.*)$/is.exec(text) ?? []
  const named = prefix.toLowerCase()
  if (named === 'powerstate') {
    const state = POWER_STATES.get(rest.toLowerCase())
    if (state === undefined) throw usage(text, 'names no power state (on, off, suspended)')
    return { by: 'powerState', value: state }
  }
  const known = LOOKUP_METHODS.find((method) => method === named)
  const by = known ?? lookup
  if (by === undefined) throw usage(text, 'has no prefix')
  const value = known === undefined ? text : rest
  if (value === '') throw usage(text, 'names nothing')
  if (by !== 'uuid') return { by, value }
  const uuid = parseUuid(value)
  if (uuid === undefined) throw usage(text, 'is not a uuid')
  return { by, value: uuid }
}

/**
 * The VMs a specification names, in order of path; empty when none. Bulk specifications leave templates out. `name:` is compared with its case,
 * `ipaddr:` finds only guests whose VMware Tools run. A few calls, whatever the number of VMs.
 */
export async function findBySpecification(
  vsphere: Vsphere,
  specification: SearchSpecification,
  options?: Abortable,
): Promise<readonly FoundVm[]> {
  const test = await matcher(vsphere, specification, options)
  const found: FoundVm[] = []
  for await (const scanned of scanVms(vsphere, ['guest.ipAddress'], options)) {
    if (!test(scanned)) continue
    const address = scanned.props.props.get('guest.ipAddress')?.text
    found.push({ vm: scanned.vm, isTemplate: scanned.isTemplate, address: address === '' ? undefined : address })
  }
  return found.sort((a, b) => byPath(a.vm, b.vm))
}

async function matcher(vsphere: Vsphere, specification: SearchSpecification, options?: Abortable): Promise<(vm: ScannedVm) => boolean> {
  switch (specification.by) {
    case 'any':
      return ({ isTemplate }) => !isTemplate
    case 'powerState':
      return ({ isTemplate, powerState }) => !isTemplate && powerState === specification.value
    case 'name':
      return ({ vm }) => vm.name === specification.value
    case 'moref':
      return ({ vm }) => vm.moref === specification.value
    case 'uuid':
      return ({ vm }) => parseUuid(vm.biosUuid) === specification.value
    case 'ipaddr': {
      const { value } = specification
      const search = isIP(value) === 0 ? ({ by: 'dns', name: value } as const) : ({ by: 'ip', ip: value } as const)
      const ids = new Set((await findVms(vsphere, search, options)).map((ref) => ref.value))
      return ({ vm }) => ids.has(vm.moref)
    }
  }
}

/** The one VM a specification names. NOT_FOUND; USAGE listing them when it names several. */
export async function findOneBySpecification(
  vsphere: Vsphere,
  text: string,
  specification: SearchSpecification,
  options?: Abortable,
): Promise<VmRef> {
  const found = await findBySpecification(vsphere, specification, options)
  const [first, second] = found
  if (first === undefined)
    throw new AgentError('NOT_FOUND', `${JSON.stringify(text)} matches no VM at ${vsphere.host}.`, {
      subject: text,
      next: 'List the VMs with "vcbVmName -s any:" and name one of those.',
    })
  if (second === undefined) return first.vm
  const paths = found.slice(0, 20).map(({ vm }) => `${vm.path} (moref:${vm.moref})`)
  throw new AgentError('USAGE', `${JSON.stringify(text)} names ${found.length} VMs: ${paths.join(', ')}.`, {
    subject: text,
    next: 'Name one of them by moref:, as "vcbVmName" shows it.',
  })
}

const usage = (text: string, what: string): AgentError =>
  new AgentError('USAGE', `The search specification ${JSON.stringify(text)} ${what}.`, {
    subject: text,
    next: 'Write name:NAME, moref:ID, uuid:UUID, ipaddr:ADDRESS, powerstate:on or any:.',
  })
