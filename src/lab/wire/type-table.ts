import table from './types.json' with { type: 'json' }

/** A field, parameter or property as declared. */
export type Field = {
  readonly name: string
  /** Base type: a primitive (`string int long short byte boolean double float dateTime binary any void`), an enum, a data type or a managed type. */
  readonly type: string
  readonly array: boolean
  /** A reference to a managed object of `type`. */
  readonly ref: boolean
  readonly optional: boolean
  /** Index into `versions` of the first version that has it. */
  readonly since: number
}
export type DataType = { readonly name: string; readonly parent: string; readonly since: number; readonly own: readonly Field[] }
export type MethodType = { readonly name: string; readonly since: number; readonly returns: Field; readonly params: readonly Field[] }
type ManagedType = {
  readonly name: string
  readonly parent: string
  readonly properties: ReadonlyMap<string, Field>
  readonly methods: ReadonlyMap<string, MethodType>
}
type Rows = {
  readonly versions: readonly string[]
  readonly enums: Readonly<Record<string, readonly string[]>>
  readonly data: Readonly<Record<string, readonly [string, number, readonly string[]]>>
  readonly managed: Readonly<
    Record<string, readonly [string, number, readonly string[], Readonly<Record<string, readonly [number, string, readonly string[]]>>]>
  >
}

/**
 * The published type definitions of the API, as far as the lab speaks it: `types.json`, written by `scripts/lab-types.py` from pyVmomi's tables
 * (Apache-2.0, Copyright VMware, Inc.) and an overlay of what is newer. Read-only; one instance serves the process.
 */
export class TypeTable {
  readonly versions: readonly string[]
  readonly #enums: ReadonlyMap<string, ReadonlySet<string>>
  readonly #data = new Map<string, DataType>()
  readonly #managed = new Map<string, ManagedType>()
  readonly #bases = new Set<string>()
  readonly #allFields = new Map<string, readonly Field[]>()

  constructor(rows: Rows = table as unknown as Rows) {
    this.versions = rows.versions
    this.#enums = new Map(Object.entries(rows.enums).map(([name, values]) => [name, new Set(values)]))
    for (const [name, [parent, since, fields]] of Object.entries(rows.data)) {
      this.#data.set(name, { name, parent, since, own: fields.map((text) => parseField(text, since)) })
      this.#bases.add(parent)
    }
    for (const [name, [parent, , properties, methods]] of Object.entries(rows.managed)) {
      this.#managed.set(name, {
        name,
        parent,
        properties: new Map(properties.map((text) => parseField(text, 0)).map((field) => [field.name, field])),
        methods: new Map(
          Object.entries(methods).map(([method, [since, returns, params]]) => [
            method,
            { name: method, since, returns: parseField(`returnval ${returns}`, 0), params: params.map((text) => parseField(text, since)) },
          ]),
        ),
      })
    }
  }

  /**
   * Index of a version id as SOAPAction names it: the same version (`7.0` is 7.0.0.0), else the newest that is not newer. Missing, unreadable or
   * newer than the server: the oldest with this namespace (2.5), as real servers do.
   */
  versionIndex(id: string | undefined): number {
    const oldest = this.versions.indexOf('2.5')
    if (id === undefined) return oldest
    const exact = this.versions.indexOf(id)
    if (exact >= 0) return exact
    const newest = this.versions.length - 1
    if (!/^\d+(\.\d+)*$/.test(id) || compareVersions(id, this.versions[newest] ?? '') > 0) return oldest
    for (let index = newest; index > oldest; index--) if (compareVersions(this.versions[index] ?? '', id) <= 0) return index
    return oldest
  }

  dataType(name: string): DataType | undefined {
    return this.#data.get(name)
  }

  enumValues(name: string): ReadonlySet<string> | undefined {
    return this.#enums.get(name)
  }

  /** True when some data type extends `name`, so that a value in its place needs xsi:type. */
  isBase(name: string): boolean {
    return this.#bases.has(name)
  }

  /** All fields of a data type in wire order: base classes first. */
  fields(name: string): readonly Field[] {
    const known = this.#allFields.get(name)
    if (known !== undefined) return known
    const type = this.#data.get(name)
    if (type === undefined) throw new Error(`the lab's type table has no data type ${name}`)
    const all = type.parent === '' || type.parent === 'DynamicData' ? type.own : [...this.fields(type.parent), ...type.own]
    this.#allFields.set(name, all)
    return all
  }

  /** `DynamicData` and `any` are bases of everything. */
  extendsData(name: string, base: string): boolean {
    for (let current: string | undefined = name; current !== undefined && current !== ''; current = this.#data.get(current)?.parent) {
      if (current === base) return true
    }
    return base === 'DynamicData' && this.#data.has(name)
  }

  /** Data types extending `base`, itself included. */
  subtypes(base: string): string[] {
    return [...this.#data.keys()].filter((name) => this.extendsData(name, base))
  }

  /** True for a fault a method or a task may give; for checking fault rules before they strike. */
  isFault(name: string): boolean {
    return this.#data.has(name) && this.extendsData(name, 'MethodFault')
  }

  hasManaged(name: string): boolean {
    return name === 'ManagedObject' || this.#managed.has(name)
  }

  extendsManaged(name: string, base: string): boolean {
    if (base === 'ManagedObject' || name === base) return true
    for (let type = this.#managed.get(name); type !== undefined; type = this.#managed.get(type.parent)) if (type.name === base) return true
    return false
  }

  /** The managed type and its bases, nearest first. */
  lineage(name: string): string[] {
    const names: string[] = []
    for (let type = this.#managed.get(name); type !== undefined; type = this.#managed.get(type.parent)) names.push(type.name)
    return names
  }

  property(type: string, name: string): Field | undefined {
    for (const base of this.lineage(type)) {
      const field = this.#managed.get(base)?.properties.get(name)
      if (field !== undefined) return field
    }
    return undefined
  }

  properties(type: string): Field[] {
    return this.lineage(type)
      .reverse()
      .flatMap((base) => [...(this.#managed.get(base)?.properties.values() ?? [])])
  }

  method(type: string, name: string): MethodType | undefined {
    for (const base of this.lineage(type)) {
      const method = this.#managed.get(base)?.methods.get(name)
      if (method !== undefined) return method
    }
    return undefined
  }
}

function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split('.').map((part) => Number.parseInt(part, 10)))
  for (let index = 0; index < 4; index++) {
    const difference = (left?.[index] ?? 0) - (right?.[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

function parseField(text: string, ownerSince: number): Field {
  const [, name, optional, since, ref, type, array] = /^(\w+)(\?)?(?:@(\d+))? (&)?(\w+)(\[\])?$/.exec(text) ?? []
  if (name === undefined || type === undefined) throw new Error(`bad row in types.json: ${text}`)
  return {
    name,
    type,
    array: array !== undefined,
    ref: ref !== undefined,
    optional: optional !== undefined,
    since: since === undefined ? ownerSince : Number(since),
  }
}
