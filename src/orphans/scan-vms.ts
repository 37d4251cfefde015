import { type Abortable, type Mark, type MoRef, parseMark, type VmRef } from '../core/index.ts'
import { claimOfName } from '../snapshot/index.ts'
import {
  datastoreBrowsers,
  decodeName,
  type InventoryTree,
  type ObjectProps,
  parseSnapshots,
  retrieveAll,
  retrieveMany,
  searchDatastore,
  type SnapshotNode,
  type Vsphere,
} from '../vsphere/index.ts'
import { snapshotProduct } from './backup-products.ts'
import type { ForeignSnapshot, MarkedObject, MarkScan, NeedsConsolidation, Unseen } from './marked-things.ts'
import { reasonOf } from './scan-directories.ts'
import { parseLayout, snapshotBytes, surplusRedoLogs, type VmLayout } from './vm-layout.ts'

const PATHS = [
  'name',
  'parent',
  'parentVApp',
  'config.annotation',
  'config.createDate',
  'config.files.vmPathName',
  'config.instanceUuid',
  'config.uuid',
  'runtime.consolidationNeeded',
  'runtime.powerState',
  'snapshot',
]

/** A VM restored by us is made within so long of its mark, whatever the clocks of proxy and vCenter say. ms */
const MADE_WITHIN = 60 * 60_000
/** VMs whose layout is read at once. */
const LAYOUTS = 50
/** VMs whose redo logs' dates are looked up, one search each. */
const MOST_DATED = 100

/** What was found on one VM, before its layout is known. */
type FoundOnVm = {
  readonly vm: VmRef
  readonly marked: readonly MarkedObject[]
  readonly foreign: readonly (ForeignSnapshot & { readonly moref: string })[]
  readonly consolidationNeeded: boolean
}

/** The part of `findMarked` that VMs tell. */
export async function scanVms(vsphere: Vsphere, tree: InventoryTree, options?: Abortable): Promise<MarkScan> {
  const found: FoundOnVm[] = []
  const unseen: Unseen[] = []
  let unreadable = 0
  for await (const object of retrieveAll(vsphere, { type: 'VirtualMachine', paths: PATHS }, options)) {
    if (object.missing.has('snapshot') || object.missing.has('config.annotation')) unreadable++
    const one = lookAt(vsphere, tree, object)
    if (one.marked.length > 0 || one.foreign.length > 0 || one.consolidationNeeded) found.push(one)
  }
  if (unreadable > 0) unseen.push({ where: `${unreadable} VMs`, reason: 'this user may not read their snapshots and notes' })
  const marked: MarkedObject[] = []
  const foreign: ForeignSnapshot[] = []
  const consolidation: NeedsConsolidation[] = []
  for (let start = 0; start < found.length; start += LAYOUTS) {
    const some = found.slice(start, start + LAYOUTS)
    const layouts = await layoutsOf(vsphere, some, options)
    for (const one of some) {
      const layout = layouts.get(one.vm.moref)
      marked.push(...one.marked.map((each) => ({ ...each, bytes: markedBytes(each, layout) })))
      foreign.push(
        ...one.foreign.map(({ moref, ...each }) => ({ ...each, bytes: layout === undefined ? undefined : snapshotBytes(layout, moref) })),
      )
      if (one.consolidationNeeded) consolidation.push(surplusOf(one.vm, layout))
    }
  }
  return { marked, foreign, consolidation: await dated(vsphere, consolidation, unseen, options), unseen }
}

function lookAt(vsphere: Vsphere, tree: InventoryTree, { obj, props }: ObjectProps): FoundOnVm {
  const name = decodeName(props.get('name')?.text ?? '?')
  const vm: VmRef = {
    moref: obj.value,
    name,
    path: tree.join(props.get('parent')?.asRef() ?? props.get('parentVApp')?.asRef(), name),
    instanceUuid: props.get('config.instanceUuid')?.text ?? '',
    biosUuid: props.get('config.uuid')?.text ?? '',
    vcenterUuid: vsphere.about.instanceUuid,
  }
  const marked: MarkedObject[] = []
  const foreign: (ForeignSnapshot & { readonly moref: string })[] = []
  for (const node of flat(parseSnapshots(props.get('snapshot')))) {
    const ours = markedSnapshot(vm, node)
    const product = ours === undefined ? snapshotProduct(node.name)?.product : undefined
    if (ours !== undefined) marked.push(ours)
    else if (product !== undefined)
      foreign.push({ product, path: vm.path, name: node.name, createdAt: node.createTime, bytes: undefined, moref: node.snapshot.value })
  }
  const mark = parseMark('vm', props.get('config.annotation')?.text ?? '')
  if (mark !== undefined) {
    marked.push({
      mark,
      claim: mark.claim,
      name,
      path: vm.path,
      since: mark.time,
      bytes: undefined,
      doubt: doubtOf(mark, props.get('runtime.powerState')?.text, props.get('config.createDate')?.text),
      what: { kind: 'vm', moref: obj.value, vmPathName: props.get('config.files.vmPathName')?.text ?? '' },
    })
  }
  return { vm, marked, foreign, consolidationNeeded: props.get('runtime.consolidationNeeded')?.text === 'true' }
}

function markedSnapshot(vm: VmRef, node: SnapshotNode): MarkedObject | undefined {
  const claim = claimOfName(node.name)
  if (claim === undefined) return undefined
  const mark = parseMark('snapshot', node.description)
  return {
    // A description taken from another snapshot of ours proves nothing about this one.
    mark: mark?.claim === claim ? mark : undefined,
    claim,
    name: node.name,
    path: vm.path,
    since: node.createTime,
    bytes: undefined,
    doubt: undefined,
    what: {
      kind: 'snapshot',
      ref: { vm, moref: node.snapshot.value, name: node.name, createdAt: node.createTime, quiesced: node.quiesced },
    },
  }
}

function doubtOf(mark: Mark, powerState: string | undefined, createDate: string | undefined): string | undefined {
  if (powerState !== 'poweredOff') return 'it is not powered off, so somebody uses it'
  const made = createDate === undefined ? Number.NaN : Date.parse(createDate)
  return made > Date.parse(mark.time) + MADE_WITHIN ? 'it was made long after its mark, so it is a copy' : undefined
}

async function layoutsOf(vsphere: Vsphere, found: readonly FoundOnVm[], options?: Abortable): Promise<ReadonlyMap<string, VmLayout>> {
  const refs = found.map(({ vm }): MoRef => ({ type: 'VirtualMachine', value: vm.moref }))
  const layouts = new Map<string, VmLayout>()
  for (const { obj, props } of await retrieveMany(vsphere, refs, ['layoutEx'], options)) {
    const layout = props.get('layoutEx')
    if (layout !== undefined) layouts.set(obj.value, parseLayout(layout))
  }
  return layouts
}

function markedBytes({ what }: MarkedObject, layout: VmLayout | undefined): number | undefined {
  if (layout === undefined) return undefined
  if (what.kind === 'snapshot') return snapshotBytes(layout, what.ref.moref)
  return layout.files.values().reduce((sum, file) => sum + file.bytes, 0)
}

function surplusOf(vm: VmRef, layout: VmLayout | undefined): NeedsConsolidation {
  const redoLogs = layout === undefined ? [] : surplusRedoLogs(layout)
  return { path: vm.path, redoLogs, bytes: redoLogs.reduce((sum, file) => sum + file.bytes, 0), since: undefined }
}

/** The age of the redo logs, from the datastores' browsers: `layoutEx` has no dates. */
async function dated(
  vsphere: Vsphere,
  consolidation: readonly NeedsConsolidation[],
  unseen: Unseen[],
  options?: Abortable,
): Promise<readonly NeedsConsolidation[]> {
  if (consolidation.length === 0) return []
  const browsers = await datastoreBrowsers(vsphere, options)
  const found: NeedsConsolidation[] = []
  for (const one of consolidation) {
    const [first] = one.redoLogs
    const home = first === undefined || found.length >= MOST_DATED ? undefined : /^\[([^\]]+)\].*(?=\/)/.exec(first.name)
    // Two datacenters may each have a datastore of this name; a wrong one merely has no such directory.
    const browser = browsers.find(({ name }) => name === home?.[1])
    if (home === null || home === undefined || browser === undefined) {
      found.push(one)
      continue
    }
    const names = new Set(one.redoLogs.map(({ name }) => name))
    try {
      const folders = await searchDatastore(vsphere, browser.browser, home[0], { patterns: ['*-??????*.vmdk'], below: false }, options)
      const dates = folders.flatMap(({ path, entries }) =>
        entries.filter((entry) => names.has(`${path}/${entry.path}`)).flatMap(({ modified }) => modified ?? []),
      )
      found.push({
        ...one,
        since: dates.reduce<string | undefined>((a, b) => (a === undefined || Date.parse(b) < Date.parse(a) ? b : a), undefined),
      })
    } catch (error) {
      unseen.push({ where: home[0], reason: reasonOf(error) })
      found.push(one)
    }
  }
  return found
}

function* flat(nodes: readonly SnapshotNode[]): Generator<SnapshotNode> {
  for (const node of nodes) {
    yield node
    yield* flat(node.children)
  }
}
