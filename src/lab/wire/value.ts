/** A managed object reference as the lab passes it about: declared type and opaque id. */
export type LabRef = { readonly $ref: string; readonly value: string }

/** A vim data object by its wire name, for example `{ $type: 'VirtualMachineFileInfo', vmPathName: '[ds] vm/vm.vmx' }`. */
export type LabObject = { readonly $type: string; readonly [field: string]: LabValue }

/**
 * Any value of the vSphere API. Enums are strings, xsd:long is a number (a bigint past 2^53), base64 and URIs are strings, an array is an array,
 * `undefined` is an unset field.
 */
export type LabValue = string | number | bigint | boolean | Date | LabRef | LabObject | readonly LabValue[] | undefined

export const labRef = (type: string, value: string): LabRef => Object.freeze({ $ref: type, value })

export const isRef = (value: LabValue): value is LabRef =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && '$ref' in value && typeof value.$ref === 'string'

export const isObject = (value: LabValue): value is LabObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && '$type' in value && typeof value.$type === 'string'

export const isList = (value: LabValue): value is readonly LabValue[] => Array.isArray(value)

/** Same object: ids are unique in one server, whatever type a reference was written with. */
export const sameRef = (a: LabRef, b: LabRef): boolean => a.value === b.value

/**
 * A scalar with its XML schema type spelled out, for places declared anyType (OptionValue.value) where the JavaScript type does not tell:
 * `typed('xsd:long', 5)`. Without it a number in an anyType place is written xsd:int, or xsd:long when it does not fit.
 */
export const typed = (type: `xsd:${string}`, value: string | number | bigint | boolean | Date): LabObject => ({ $type: type, value })

/** An array in an anyType place whose item type cannot be told from the first item (empty, or items of several subtypes). */
export const arrayOf = (itemType: string, items: readonly LabValue[]): LabObject => ({ $type: `ArrayOf${capitalised(itemType)}`, items })

const capitalised = (name: string): string => name.charAt(0).toUpperCase() + name.slice(1)

/** The text of a scalar; empty when unset. Arguments declared `string` are read with it. */
export function textOf(value: LabValue): string {
  if (value === undefined) return ''
  if (value instanceof Date) return value.toISOString()
  if (typeof value === 'object') throw new TypeError('a data object where a text is declared')
  return String(value)
}
