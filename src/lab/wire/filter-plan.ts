import { invalidArgument, notFound, VimFault } from './fault.ts'
import type { ManagedObject } from './managed-object.ts'
import { compilePath, type PropertyPath, topPath } from './property-path.ts'
import type { TypeTable } from './type-table.ts'
import { isList, isObject, isRef, type LabObject, type LabRef, type LabValue, textOf } from './value.ts'

export type Lookup = (ref: LabRef) => ManagedObject | undefined

type PropSet = { readonly type: string; readonly all: boolean; readonly paths: readonly string[] }
type Traversal = {
  readonly name: string | undefined
  readonly type: string
  readonly path: string
  readonly skip: boolean
  readonly select: readonly Select[]
}
type Select = Traversal | { readonly reference: string }
type Root = { readonly ref: LabRef; readonly skip: boolean; readonly select: readonly Select[] }

/**
 * A PropertyFilterSpec, checked: which objects it selects (by traversal, with recursion through named specs) and which properties of each
 * (the union of the matching propSets). Faults InvalidProperty for a path its type does not have, InvalidArgument for unknown types and names.
 */
export class FilterPlan {
  /** Top-level properties that traversal follows. */
  readonly structural = new Set<string>()
  readonly reportMissing: boolean
  readonly #types: TypeTable
  readonly #version: number
  readonly #propSets: readonly PropSet[]
  readonly #roots: readonly Root[]
  readonly #named = new Map<string, Traversal>()
  readonly #byType = new Map<string, readonly PropertyPath[] | undefined>()

  constructor(types: TypeTable, version: number, spec: LabObject) {
    this.#types = types
    this.#version = version
    this.reportMissing = spec.reportMissingObjectsInResults === true
    this.#propSets = objects(spec.propSet).map((set) => this.#propSet(set))
    this.#roots = objects(spec.objectSet).map((set) => {
      if (!isRef(set.obj)) throw invalidArgument('specSet.objectSet.obj')
      return { ref: set.obj, skip: set.skip === true, select: objects(set.selectSet).map((select) => this.#select(select)) }
    })
    for (const root of this.#roots) this.#checkNames(root.select)
  }

  /** Objects the spec names itself. */
  get roots(): readonly LabRef[] {
    return this.#roots.map((root) => root.ref)
  }

  /** Paths to read of an object of this type; undefined when no propSet is for it. */
  pathsOf(managedType: string): readonly PropertyPath[] | undefined {
    if (this.#byType.has(managedType)) return this.#byType.get(managedType)
    const matching = this.#propSets.filter((set) => this.#types.extendsManaged(managedType, set.type))
    const paths = new Map<string, PropertyPath>()
    for (const set of matching) {
      if (set.all) {
        for (const field of this.#types.properties(managedType)) if (field.since <= this.#version) paths.set(field.name, topPath(field))
      }
      for (const path of set.paths) {
        const compiled = compilePath(this.#types, managedType, path, this.#version)
        if (compiled !== undefined) paths.set(path, compiled)
      }
    }
    const found = matching.length === 0 ? undefined : [...paths.values()]
    this.#byType.set(managedType, found)
    return found
  }

  /** Selected objects in the order of traversal, each once. A root that does not exist: ManagedObjectNotFound, or skipped when `lenient`. */
  walk(lookup: Lookup, lenient = false): Map<string, ManagedObject> {
    const selected = new Map<string, ManagedObject>()
    const visited = new Map<Select | Root, Set<string>>()
    const queue: { object: ManagedObject; skip: boolean; select: readonly Select[] }[] = []
    for (const root of this.#roots) {
      const object = lookup(root.ref)
      if (object !== undefined) queue.push({ object, skip: root.skip, select: root.select })
      else if (!lenient) throw notFound(root.ref)
    }
    for (let at = 0; at < queue.length; at++) {
      const entry = queue[at]
      if (entry === undefined) break
      const { object, skip, select } = entry
      if (!skip && this.pathsOf(object.ref.$ref) !== undefined) selected.set(object.ref.value, object)
      for (const candidate of select) {
        const spec = 'reference' in candidate ? this.#named.get(candidate.reference) : candidate
        if (spec === undefined || !this.#types.extendsManaged(object.ref.$ref, spec.type)) continue
        let seen = visited.get(spec)
        if (seen === undefined) visited.set(spec, (seen = new Set()))
        if (seen.has(object.ref.value)) continue
        seen.add(object.ref.value)
        for (const ref of this.#follow(object, spec)) {
          if (spec.select.length === 0 && (spec.skip || selected.has(ref.value) || this.pathsOf(ref.$ref) === undefined)) continue
          const next = lookup(ref)
          if (next === undefined) continue
          if (spec.select.length > 0) queue.push({ object: next, skip: spec.skip, select: spec.select })
          else selected.set(next.ref.value, next)
        }
      }
    }
    return selected
  }

  *#follow(object: ManagedObject, spec: Traversal): Iterable<LabRef> {
    const path = compilePath(this.#types, object.ref.$ref, spec.path, this.#version)
    if (path === undefined) return
    let value: LabValue = object.property(path.top)
    for (const step of path.steps.slice(1)) value = isObject(value) ? value[step.name] : undefined
    if (isRef(value)) yield value
    else if (isList(value)) for (const item of value) if (isRef(item)) yield item
  }

  #propSet(set: LabObject): PropSet {
    const type = textOf(set.type)
    if (!this.#types.hasManaged(type)) throw invalidArgument('specSet.propSet.type', `The type ${type} is not known to the lab.`)
    const paths = isList(set.pathSet) ? set.pathSet.map(textOf) : []
    for (const path of paths) {
      if (compilePath(this.#types, type, path, this.#version) === undefined) throw new VimFault('InvalidProperty', { name: path })
    }
    return { type, all: set.all === true, paths }
  }

  #select(select: LabObject): Select {
    if (select.$type !== 'TraversalSpec') return { reference: textOf(select.name ?? '') }
    const type = textOf(select.type)
    const path = textOf(select.path)
    if (!this.#types.hasManaged(type))
      throw invalidArgument('specSet.objectSet.selectSet.type', `The type ${type} is not known to the lab.`)
    const compiled = compilePath(this.#types, type, path, this.#version)
    if (compiled === undefined || !compiled.declared.ref) throw new VimFault('InvalidProperty', { name: path })
    this.structural.add(compiled.top)
    const name = typeof select.name === 'string' && select.name !== '' ? select.name : undefined
    const traversal: Traversal = {
      name,
      type,
      path,
      skip: select.skip === true,
      select: objects(select.selectSet).map((inner) => this.#select(inner)),
    }
    if (name !== undefined) this.#named.set(name, traversal)
    return traversal
  }

  #checkNames(select: readonly Select[]): void {
    for (const spec of select) {
      if ('reference' in spec) {
        if (!this.#named.has(spec.reference))
          throw invalidArgument('specSet.objectSet.selectSet.name', `No TraversalSpec is named '${spec.reference}'.`)
      } else this.#checkNames(spec.select)
    }
  }
}

export const objects = (value: LabValue): LabObject[] => (isList(value) ? value.filter(isObject) : [])
