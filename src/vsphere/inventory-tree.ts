import { type Abortable, AgentError, type MoRef } from '../core/index.ts'
import { type ObjectProps, retrieveAll, retrieveOne } from './property-collector.ts'
import type { Vsphere } from './vsphere.ts'

export type Datacenter = {
  readonly moref: MoRef
  readonly name: string
  /** Inventory path, `/folder/DC`. */
  readonly path: string
}

/** Containers of the inventory by reference, read once; turns `parent` references into paths. */
export interface InventoryTree {
  /** `/DC/vm/folder`; the root folder is ''. Undefined for a reference outside the tree (a container the user may not see). */
  pathOf(container: MoRef | undefined): string | undefined
  /** `/DC/vm/folder/NAME`, `/`, `\` and `%` of the name written %2f, %5c and %25. `?` stands for containers that cannot be seen. */
  join(parent: MoRef | undefined, name: string): string
  datacenterOf(container: MoRef | undefined): Datacenter | undefined
  /** The container at an inventory path, a leading `/` optional. */
  at(path: string): MoRef | undefined
  /** True when `container` is `ancestor` or lies below it. */
  isBelow(container: MoRef | undefined, ancestor: MoRef): boolean
}

type Container = { readonly ref: MoRef; readonly name: string; readonly parent: MoRef | undefined }

/** Deeper than any inventory; a loop in what the server says ends here. */
const MAX_DEPTH = 100

/** vSphere gives names with `/`, `\` and `%` written %2f, %5c and %25 (RegisterVM and the name property do it alike). */
export const decodeName = (name: string): string =>
  name.replaceAll(/%(2f|5c|25)/gi, (code) => String.fromCharCode(Number.parseInt(code.slice(1), 16)))

/** One step of an inventory path. */
export const encodeName = (name: string): string => decodeName(name).replaceAll('%', '%25').replaceAll('/', '%2f').replaceAll('\\', '%5c')

/** Reads folders, datacenters and vApps. A few calls, whatever the number of VMs. */
export async function loadInventoryTree(vsphere: Vsphere, options?: Abortable): Promise<InventoryTree> {
  const containers = new Map<string, Container>()
  for (const type of ['Folder', 'Datacenter', 'VirtualApp', 'ComputeResource'] as const) {
    const paths = type === 'VirtualApp' ? ['name', 'parent', 'parentFolder'] : ['name', 'parent']
    for await (const found of retrieveAll(vsphere, { type, paths }, options)) add(containers, found)
  }
  return new Tree(containers, vsphere.service('rootFolder'))
}

function add(containers: Map<string, Container>, { obj, props }: ObjectProps): void {
  // A vApp's parent is a resource pool; its place in the tree of folders is parentFolder.
  const parent = props.get('parentFolder')?.asRef() ?? props.get('parent')?.asRef()
  containers.set(obj.value, { ref: obj, name: decodeName(props.get('name')?.text ?? '?'), parent })
}

class Tree implements InventoryTree {
  readonly #containers: ReadonlyMap<string, Container>
  readonly #root: MoRef
  readonly #paths = new Map<string, string>()

  constructor(containers: ReadonlyMap<string, Container>, root: MoRef) {
    this.#containers = containers
    this.#root = root
  }

  pathOf(container: MoRef | undefined): string | undefined {
    if (container === undefined) return undefined
    if (container.value === this.#root.value) return ''
    const known = this.#paths.get(container.value)
    if (known !== undefined) return known
    const line = this.#line(container)
    const last = line.at(-1)
    if (last === undefined || (last.parent !== undefined && last.parent.value !== this.#root.value)) return undefined
    const path = line.reduceRight((above, { name }) => `${above}/${encodeName(name)}`, '')
    this.#paths.set(container.value, path)
    return path
  }

  join(parent: MoRef | undefined, name: string): string {
    return `${this.pathOf(parent) ?? '/?'}/${encodeName(name)}`
  }

  datacenterOf(container: MoRef | undefined): Datacenter | undefined {
    const found = container === undefined ? undefined : this.#line(container).find(({ ref }) => ref.type === 'Datacenter')
    return found === undefined ? undefined : { moref: found.ref, name: found.name, path: this.pathOf(found.ref) ?? encodeName(found.name) }
  }

  at(path: string): MoRef | undefined {
    const wanted = `/${path
      .split('/')
      .filter((part) => part !== '')
      .map(encodeName)
      .join('/')}`
    if (wanted === '/') return this.#root
    for (const { ref } of this.#containers.values()) if (this.pathOf(ref) === wanted) return ref
    return undefined
  }

  isBelow(container: MoRef | undefined, ancestor: MoRef): boolean {
    if (ancestor.value === this.#root.value) return true
    return container !== undefined && this.#line(container).some(({ ref }) => ref.value === ancestor.value)
  }

  /** From the container itself up to the one below the root. */
  #line(container: MoRef): Container[] {
    const line: Container[] = []
    for (let current = this.#containers.get(container.value); current !== undefined && line.length < MAX_DEPTH; ) {
      if (current.ref.value === this.#root.value) break
      line.push(current)
      current = current.parent === undefined ? undefined : this.#containers.get(current.parent.value)
    }
    return line
  }
}

/** The datacenter that holds an entity (VM, datastore, host, folder), by walking up its parents. NOT_FOUND. */
export async function datacenterOf(vsphere: Vsphere, entity: MoRef, options?: Abortable): Promise<Datacenter> {
  let current: MoRef | undefined = entity
  let datacenter: { moref: MoRef; name: string } | undefined
  const above: string[] = []
  const root = vsphere.service('rootFolder').value
  for (let depth = 0; current !== undefined && current.value !== root && depth < MAX_DEPTH; depth++) {
    const paths = current.type === 'VirtualMachine' ? ['name', 'parent', 'parentVApp'] : ['name', 'parent']
    const { props }: ObjectProps = await retrieveOne(vsphere, current, paths, options)
    const name = decodeName(props.get('name')?.text ?? '?')
    if (datacenter !== undefined) above.unshift(encodeName(name))
    else if (current.type === 'Datacenter') datacenter = { moref: current, name }
    current = props.get('parent')?.asRef() ?? props.get('parentVApp')?.asRef()
  }
  if (datacenter === undefined)
    throw new AgentError('NOT_FOUND', `${entity.type} ${entity.value} is in no datacenter.`, { subject: entity.value })
  return { ...datacenter, path: ['', ...above, encodeName(datacenter.name)].join('/') }
}

/** Every datacenter the user can see. */
export async function listDatacenters(vsphere: Vsphere, options?: Abortable): Promise<readonly Datacenter[]> {
  const tree = await loadInventoryTree(vsphere, options)
  const found: Datacenter[] = []
  for await (const { obj } of retrieveAll(vsphere, { type: 'Datacenter', paths: ['name'] }, options)) {
    const datacenter = tree.datacenterOf(obj)
    if (datacenter !== undefined) found.push(datacenter)
  }
  return found
}
