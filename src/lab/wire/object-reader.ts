import { encoded, type Encoder } from './encoder.ts'
import { toVimFault, VimFault } from './fault.ts'
import type { ManagedObject } from './managed-object.ts'
import { type PropertyPath, readPath } from './property-path.ts'
import type { LabObject, LabValue } from './value.ts'

/** One property as read: unset (no xml), a value as encoded for an anyType element, or the fault that stands in its place. */
export type ReadProperty = {
  readonly path: PropertyPath
  readonly xml: string | undefined
  readonly value: LabValue
  readonly fault: VimFault | undefined
}

/** Reads the paths of one object, each top-level property once. A VimFault from the model (NoPermission) is kept per path. */
export function readProperties(object: ManagedObject, paths: readonly PropertyPath[], encoder: Encoder): ReadProperty[] {
  const tops = new Map<string, LabValue>()
  return paths.map((path) => {
    try {
      let top = tops.get(path.top)
      if (top === undefined && !tops.has(path.top)) {
        top = object.property(path.top)
        tops.set(path.top, top)
      }
      const value = top === undefined ? undefined : readPath(object, path, top)
      return { path, value, xml: value === undefined ? undefined : encoder.any(value, path.declared), fault: undefined }
    } catch (error) {
      if (!(error instanceof VimFault))
        throw new Error(`${object.ref.$ref} ${object.ref.value}, ${path.path}: ${String(error)}`, { cause: error })
      return { path, value: undefined, xml: undefined, fault: toVimFault(error) }
    }
  })
}

/** ObjectContent: set properties, and those that could not be read. */
export function objectContent(object: ManagedObject, read: readonly ReadProperty[]): LabObject {
  return {
    $type: 'ObjectContent',
    obj: object.ref,
    propSet: read.flatMap(({ path, xml }) => (xml === undefined ? [] : [{ $type: 'DynamicProperty', name: path.path, val: encoded(xml) }])),
    missingSet: missingSet(read),
  }
}

export const missingSet = (read: readonly ReadProperty[]): LabObject[] =>
  read.flatMap(({ path, fault }) => (fault === undefined ? [] : [{ $type: 'MissingProperty', path: path.path, fault: fault.localized }]))
