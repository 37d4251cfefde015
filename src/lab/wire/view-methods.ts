import { invalidArgument, notFound } from './fault.ts'
import type { ManagedObject } from './managed-object.ts'
import type { TypeTable } from './type-table.ts'
import { isList, isRef, type LabRef, type LabValue } from './value.ts'
import { sessionOf, type WireCall, type WireMethods } from './wire-context.ts'

/** Where a container's content hangs, by type; subtypes follow their base. */
const CHILDREN: readonly (readonly [string, readonly string[]])[] = [
  ['Folder', ['childEntity']],
  ['Datacenter', ['vmFolder', 'hostFolder', 'datastoreFolder', 'networkFolder']],
  ['ComputeResource', ['resourcePool', 'host']],
  ['ResourcePool', ['resourcePool', 'vm']],
  ['HostSystem', ['vm']],
]
type Lookup = (ref: LabRef) => ManagedObject | undefined

const refs = (value: LabValue): LabRef[] => (isRef(value) ? [value] : isList(value) ? value.filter(isRef) : [])

/** A live view of a container: its content is found anew at each read. */
class ContainerView implements ManagedObject {
  readonly ref: LabRef
  readonly #types: TypeTable
  readonly #lookup: Lookup
  readonly #container: LabRef
  readonly #wanted: readonly string[]
  readonly #recursive: boolean

  constructor(ref: LabRef, types: TypeTable, lookup: Lookup, container: LabRef, wanted: readonly string[], recursive: boolean) {
    this.ref = ref
    this.#types = types
    this.#lookup = lookup
    this.#container = container
    this.#wanted = wanted
    this.#recursive = recursive
  }

  property(name: string): LabValue {
    switch (name) {
      case 'container':
        return this.#container
      case 'type':
        return this.#wanted
      case 'recursive':
        return this.#recursive
      case 'view':
        return this.#content()
      default:
        return undefined
    }
  }

  #content(): LabRef[] {
    const found: LabRef[] = []
    const seen = new Set<string>([this.#container.value])
    const queue: LabRef[] = [this.#container]
    for (let at = 0; at < queue.length; at++) {
      const container = queue[at]
      if (container === undefined) break
      for (const child of this.#children(container)) {
        if (seen.has(child.value)) continue
        seen.add(child.value)
        if (this.#wants(child.$ref)) found.push(child)
        if (this.#recursive) queue.push(child)
      }
    }
    return found
  }

  #children(ref: LabRef): LabRef[] {
    const properties = CHILDREN.find(([type]) => this.#types.extendsManaged(ref.$ref, type))?.[1]
    if (properties === undefined) return []
    const object = this.#lookup(ref)
    return object === undefined ? [] : properties.flatMap((name) => refs(object.property(name)))
  }

  #wants(type: string): boolean {
    return this.#wanted.length === 0 || this.#wanted.some((wanted) => this.#types.extendsManaged(type, wanted))
  }
}

class ListView implements ManagedObject {
  readonly ref: LabRef
  list: readonly LabRef[]

  constructor(ref: LabRef, list: readonly LabRef[]) {
    this.ref = ref
    this.list = list
  }

  property(name: string): LabValue {
    return name === 'view' ? this.list : undefined
  }
}

/** Replaces a list view's content by those references that exist; answers those that do not. */
function reset(call: WireCall, list: readonly LabRef[]): LabRef[] {
  const view = listView(call)
  const session = sessionOf(call)
  const exists = (ref: LabRef): boolean => call.context.lookup(ref, session) !== undefined
  view.list = list.filter(exists)
  call.context.options.feed.changed(view.ref, 'view')
  return list.filter((ref) => !exists(ref))
}

function listView(call: WireCall): ListView {
  if (call.self instanceof ListView) return call.self
  throw notFound(call.self.ref)
}

export const viewMethods: WireMethods = {
  ViewManager: {
    CreateContainerView: (call) => {
      const session = sessionOf(call)
      const { container, recursive } = call.args
      const wanted = isList(call.args.type) ? call.args.type.map(String) : []
      const lookup: Lookup = (ref) => call.context.lookup(ref, session)
      if (!isRef(container)) throw invalidArgument('container')
      const object = lookup(container)
      if (object === undefined) throw notFound(container)
      const { types } = call.context
      if (!CHILDREN.some(([type]) => types.extendsManaged(object.ref.$ref, type))) throw invalidArgument('container')
      if (wanted.some((type) => !types.hasManaged(type))) throw invalidArgument('type')
      const own = call.context.objects(session)
      return own.add(new ContainerView(own.newRef('ContainerView'), types, lookup, object.ref, wanted, recursive === true)).ref
    },
    CreateListView: (call) => {
      const own = call.context.objects(sessionOf(call))
      const list = refs(call.args.obj)
      for (const ref of list) if (call.context.lookup(ref, call.session) === undefined) throw notFound(ref)
      return own.add(new ListView(own.newRef('ListView'), list)).ref
    },
  },
  View: {
    DestroyView: (call) => call.context.objects(sessionOf(call)).remove(call.self.ref),
  },
  ListView: {
    ModifyListView: (call) => {
      const removed = new Set(refs(call.args.remove).map((ref) => ref.value))
      const kept = listView(call).list.filter((ref) => !removed.has(ref.value))
      const known = new Set(kept.map((ref) => ref.value))
      return reset(call, [...kept, ...refs(call.args.add).filter((ref) => !known.has(ref.value))])
    },
    ResetListView: (call) => reset(call, refs(call.args.obj)),
    ResetListViewFromView: (call) => {
      const source = isRef(call.args.view) ? call.context.lookup(call.args.view, call.session) : undefined
      if (source === undefined) throw invalidArgument('view')
      reset(call, refs(source.property('view')))
    },
  },
}
