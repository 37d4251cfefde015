import { encoded, type Encoder } from './encoder.ts'
import { notFound } from './fault.ts'
import type { FilterPlan, Lookup } from './filter-plan.ts'
import type { ManagedObject } from './managed-object.ts'
import { missingSet, type ReadProperty, readProperties } from './object-reader.ts'
import { isObject, type LabObject, type LabRef, type LabValue } from './value.ts'

type Known = { readonly ref: LabRef; readonly properties: Map<string, ReadProperty> }

/** Properties that hold the inventory together: a change of one may change what any traversal or view selects. */
const CONTAINMENT = new Set('childEntity vmFolder hostFolder datastoreFolder networkFolder host resourcePool vm view'.split(' '))

/** A PropertyFilter: remembers what it has reported and answers what has changed since. Belongs to one collector. */
export class PropertyFilter implements ManagedObject {
  readonly ref: LabRef
  readonly #spec: LabObject
  readonly #plan: FilterPlan
  readonly #encoder: Encoder
  readonly #lookup: Lookup
  readonly #partial: boolean
  #known = new Map<string, Known>()
  #dirty: Set<string> | 'all' = 'all'

  constructor(ref: LabRef, spec: LabObject, plan: FilterPlan, encoder: Encoder, lookup: Lookup, partial: boolean) {
    this.ref = ref
    this.#spec = spec
    this.#plan = plan
    this.#encoder = encoder
    this.#lookup = lookup
    this.#partial = partial
  }

  property(name: string): LabValue {
    return name === 'spec' ? this.#spec : name === 'partialUpdates' ? this.#partial : undefined
  }

  /** Takes note of a change; true when this filter has to look again. */
  note(ref: LabRef, properties: readonly string[]): boolean {
    if (properties.length === 0 || properties.some((name) => CONTAINMENT.has(name) || this.#plan.structural.has(name))) this.#dirty = 'all'
    else if (this.#dirty !== 'all' && this.#known.has(ref.value)) this.#dirty.add(ref.value)
    return this.#dirty === 'all' || this.#dirty.size > 0
  }

  /** Forgets what was reported: the next `updates` gives the whole state. */
  reset(): void {
    this.#known = new Map()
    this.#dirty = 'all'
  }

  /** Object updates since the last call, and objects the spec names that do not exist (when it asks for them). */
  updates(): { updates: LabObject[]; missing: LabObject[] } {
    const dirty = this.#dirty
    if (dirty !== 'all' && dirty.size === 0) return { updates: [], missing: [] }
    this.#dirty = new Set()
    const updates: LabObject[] = []
    const missing: LabObject[] = []
    if (dirty === 'all') {
      const selected = this.#plan.walk(this.#lookup, true)
      for (const [id, known] of this.#known) {
        if (selected.has(id)) continue
        this.#known.delete(id)
        updates.push({ $type: 'ObjectUpdate', kind: 'leave', obj: known.ref })
        if (this.#plan.reportMissing) missing.push({ $type: 'MissingObject', obj: known.ref, fault: notFound(known.ref).localized })
      }
      for (const object of selected.values()) this.#look(object, updates)
    } else {
      for (const id of dirty) {
        const known = this.#known.get(id)
        const object = known === undefined ? undefined : this.#lookup(known.ref)
        if (object !== undefined) this.#look(object, updates)
        else if (known !== undefined) {
          this.#known.delete(id)
          updates.push({ $type: 'ObjectUpdate', kind: 'leave', obj: known.ref })
        }
      }
    }
    return { updates, missing }
  }

  #look(object: ManagedObject, updates: LabObject[]): void {
    const read = readProperties(object, this.#plan.pathsOf(object.ref.$ref) ?? [], this.#encoder)
    const before = this.#known.get(object.ref.value)
    this.#known.set(object.ref.value, { ref: object.ref, properties: new Map(read.map((property) => [property.path.path, property])) })
    if (before === undefined) {
      updates.push(
        update(
          'enter',
          object.ref,
          read.filter(({ fault }) => fault === undefined).map((property) => assign(property.path.path, property.xml)),
          read,
        ),
      )
      return
    }
    const changes: LabObject[] = []
    const changed: ReadProperty[] = []
    for (const property of read) {
      const old = before.properties.get(property.path.path)
      if (old !== undefined && old.xml === property.xml && old.fault?.faultType === property.fault?.faultType) continue
      changed.push(property)
      if (property.fault === undefined) changes.push(...this.#difference(old, property))
    }
    if (changed.length > 0) updates.push(update('modify', object.ref, changes, changed))
  }

  #difference(old: ReadProperty | undefined, now: ReadProperty): LabObject[] {
    const path = now.path.path
    if (this.#partial && old !== undefined && isObject(old.value) && isObject(now.value)) {
      const nested = this.#nested(path, old.value, now.value)
      if (nested.length > 0) return nested
    }
    return [assign(path, now.xml)]
  }

  /** Changed fields of a data object, one by one, as partial updates name them. */
  #nested(path: string, old: LabObject, now: LabObject): LabObject[] {
    if (old.$type !== now.$type) return []
    const changes: LabObject[] = []
    for (const field of this.#encoder.types.fields(now.$type)) {
      const [before, after] = [old[field.name], now[field.name]]
      if (field.since > this.#encoder.version || before === after) continue
      const xml = after === undefined ? undefined : this.#encoder.any(after, field)
      if (before !== undefined && xml === this.#encoder.any(before, field)) continue
      const inner = isObject(before) && isObject(after) ? this.#nested(`${path}.${field.name}`, before, after) : []
      if (inner.length > 0) changes.push(...inner)
      else changes.push(assign(`${path}.${field.name}`, xml))
    }
    return changes
  }
}

const assign = (name: string, xml: string | undefined): LabObject => ({
  $type: 'PropertyChange',
  name,
  op: 'assign',
  val: xml === undefined ? undefined : encoded(xml),
})

const update = (kind: string, obj: LabRef, changeSet: LabObject[], read: readonly ReadProperty[]): LabObject => ({
  $type: 'ObjectUpdate',
  kind,
  obj,
  changeSet,
  missingSet: missingSet(read),
})
