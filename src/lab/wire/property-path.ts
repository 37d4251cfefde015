import type { ManagedObject } from './managed-object.ts'
import type { Field, TypeTable } from './type-table.ts'
import { isList, isObject, isRef, type LabValue } from './value.ts'

type Step = { readonly name: string; readonly key: string | undefined }

/** A property path checked against the declared types, ready to be read many times. */
export type PropertyPath = {
  readonly path: string
  /** The top-level property. */
  readonly top: string
  readonly steps: readonly Step[]
  /** What the path leads to. */
  readonly declared: Field
}

/**
 * Compiles `config.hardware.device[2000].backing` for objects of a managed type; undefined when the type, in this version, has no such path.
 * A field that only a subtype declares is allowed: the path is then unset on objects of other subtypes.
 */
export function compilePath(types: TypeTable, managedType: string, path: string, version: number): PropertyPath | undefined {
  const steps = parsePath(path)
  const [first, ...rest] = steps ?? []
  if (first === undefined) return undefined
  let field = types.property(managedType, first.name)
  if (field === undefined || field.since > version || (first.key !== undefined && !field.array)) return undefined
  let declared: Field = first.key === undefined ? field : { ...field, array: false }
  for (const step of rest) {
    if (declared.array || declared.ref) return undefined
    field = findField(types, declared.type, step.name)
    if (field === undefined || field.since > version || (step.key !== undefined && !field.array)) return undefined
    declared = step.key === undefined ? field : { ...field, array: false }
  }
  return { path, top: first.name, steps: steps ?? [], declared }
}

/** A top-level property as a path. */
export const topPath = (field: Field): PropertyPath => ({
  path: field.name,
  top: field.name,
  steps: [{ name: field.name, key: undefined }],
  declared: field,
})

/** Reads a path; `top` may be given by a caller who reads several paths below one property. */
export function readPath(object: ManagedObject, path: PropertyPath, top: LabValue = object.property(path.top)): LabValue {
  let value = top
  for (const [index, step] of path.steps.entries()) {
    if (index > 0) value = isObject(value) ? value[step.name] : undefined
    if (step.key !== undefined) value = isList(value) ? value.find((entry) => keyOf(entry) === step.key) : undefined
    if (value === undefined) return undefined
  }
  return value
}

function keyOf(value: LabValue): string | undefined {
  if (isRef(value)) return value.value
  if (isObject(value)) {
    const key = value.key
    return isRef(key) ? key.value : key === undefined || typeof key === 'object' ? undefined : String(key)
  }
  return typeof value === 'string' ? value : undefined
}

function findField(types: TypeTable, dataType: string, name: string): Field | undefined {
  if (types.dataType(dataType) === undefined) return undefined
  const own = types.fields(dataType).find((field) => field.name === name)
  if (own !== undefined || !types.isBase(dataType)) return own
  for (const subtype of types.subtypes(dataType)) {
    const field = types.fields(subtype).find((candidate) => candidate.name === name)
    if (field !== undefined) return field
  }
  return undefined
}

function parsePath(path: string): Step[] | undefined {
  const steps: Step[] = []
  const pattern = /(\w+)(?:\[(?:"([^"]*)"|([^\]"]*))\])?(\.|$)/y
  while (pattern.lastIndex < path.length) {
    const match = pattern.exec(path)
    if (match?.[1] === undefined) return undefined
    steps.push({ name: match[1], key: match[2] ?? match[3] })
    if (match[4] === '' && pattern.lastIndex < path.length) return undefined
    if (match[4] === '.' && pattern.lastIndex >= path.length) return undefined
  }
  return steps.length === 0 ? undefined : steps
}
