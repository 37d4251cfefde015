import { VimFault } from './fault.ts'
import type { Field, TypeTable } from './type-table.ts'
import { isList, isObject, isRef, type LabObject, type LabRef, type LabValue, textOf } from './value.ts'

const PRIMITIVES = new Set(['string', 'int', 'long', 'short', 'byte', 'boolean', 'double', 'float', 'dateTime', 'binary', 'any', 'void'])

/** Pre-encoded content of an anyType element, from `Encoder.any`: the attributes, `>`, and what is inside. */
export const encoded = (xml: string): LabObject => ({ $type: '#xml', xml })

/**
 * Writes LabValues as the XML of one API version: declaration order, base fields first, only what the version knows, xsi:type wherever the
 * declared type has subtypes. A value that does not fit its declaration is the model's mistake and throws a plain Error.
 */
export class Encoder {
  readonly types: TypeTable
  readonly version: number
  readonly #known = new Map<string, readonly Field[]>()

  constructor(types: TypeTable, version: number) {
    this.types = types
    this.version = version
  }

  /** `<name …>…</name>` for a declared field; nothing when unset. */
  field(field: Field, value: LabValue): string {
    if (value === undefined) return ''
    if (!field.array) return this.#element(field.name, field, value)
    if (!isList(value)) throw new Error(`${field.name} is declared an array of ${field.type}, the value is none`)
    let xml = ''
    for (const item of value) if (item !== undefined) xml += this.#element(field.name, field, item)
    return xml
  }

  /** Attributes and content of an element in an anyType place: ` xsi:type="xsd:int">5`. `declared` when the place's real type is known. */
  any(value: LabValue, declared?: Field): string {
    if (declared !== undefined && declared.type !== 'any') {
      if (declared.array) return this.#array(declared, isList(value) ? value : [])
      if (declared.ref && isRef(value)) return this.#reference(value, ' xsi:type="ManagedObjectReference"')
      if (this.types.enumValues(declared.type) !== undefined) return ` xsi:type="${declared.type}">${escape(textOf(value))}`
      if (PRIMITIVES.has(declared.type)) return ` xsi:type="${xsd(declared.type)}">${scalar(declared.type, value)}`
    }
    if (isRef(value)) return this.#reference(value, ' xsi:type="ManagedObjectReference"')
    if (isList(value)) return this.#array(inferItem(this.types, value), value)
    if (isObject(value)) {
      if (value.$type === '#xml') return textOf(value.xml)
      if (value.$type.startsWith('xsd:')) return ` xsi:type="${value.$type}">${scalar(value.$type.slice(4), value.value)}`
      if (value.$type.startsWith('ArrayOf') && this.types.dataType(value.$type) === undefined) {
        return this.#array(itemField(this.types, value.$type.slice(7)), isList(value.items) ? value.items : [])
      }
      const name = this.#nearest(value.$type, undefined)
      return ` xsi:type="${name}">${this.#content(name, value)}`
    }
    const type = scalarType(value)
    return ` xsi:type="${xsd(type)}">${scalar(type, value)}`
  }

  /** The detail element of a SOAP fault. */
  fault(fault: VimFault): string {
    const name = this.types.dataType(fault.faultType) === undefined ? 'SystemError' : this.#nearest(fault.faultType, undefined)
    const fields = name === 'SystemError' && fault.faultType !== 'SystemError' ? { reason: fault.message } : fault.fields
    const content = this.#content(name, { ...fields, $type: name })
    return `<${name}Fault xmlns="urn:vim25" xsi:type="${name}">${content}</${name}Fault>`
  }

  #element(name: string, field: Field, value: LabValue): string {
    if (field.ref) {
      if (!isRef(value)) throw new Error(`${name} is declared a reference to ${field.type}, the value is none`)
      if (!this.types.extendsManaged(value.$ref, field.type)) throw new Error(`${name} is declared a ${field.type}, not a ${value.$ref}`)
      return `<${name}${this.#reference(value, '')}</${name}>`
    }
    if (field.type === 'any') return `<${name}${this.any(value)}</${name}>`
    if (this.types.dataType(field.type) !== undefined) {
      if (!isObject(value)) throw new Error(`${name} is declared a ${field.type}, the value is no data object`)
      if (field.type === 'MethodFault' && !this.types.isFault(value.$type)) {
        return this.#element(name, field, { $type: 'SystemError', reason: `The lab does not know the fault ${value.$type}.` })
      }
      const type = this.#nearest(value.$type, field.type)
      const mark = type !== field.type || this.types.isBase(field.type) ? ` xsi:type="${type}"` : ''
      return `<${name}${mark}>${this.#content(type, value)}</${name}>`
    }
    if (this.types.enumValues(field.type) !== undefined) return `<${name}>${escape(textOf(value))}</${name}>`
    return `<${name}>${scalar(field.type, value)}</${name}>`
  }

  #content(type: string, value: LabObject): string {
    let xml = ''
    let used = 0
    for (const field of this.#fields(type)) {
      const item = value[field.name]
      if (item === undefined) continue
      used++
      xml += this.field(field, item)
    }
    const given = Object.keys(value).filter((key) => key !== '$type' && value[key] !== undefined)
    if (used < given.length) {
      const known = new Set(
        this.types.fields(this.types.dataType(value.$type) === undefined ? type : value.$type).map((field) => field.name),
      )
      const wrong = given.find((key) => !known.has(key))
      if (wrong !== undefined) throw new Error(`the data type ${value.$type} has no field ${wrong}`)
    }
    return xml
  }

  #fields(type: string): readonly Field[] {
    const known = this.#known.get(type)
    if (known !== undefined) return known
    const fields = this.types.fields(type).filter((field) => field.since <= this.version)
    this.#known.set(type, fields)
    return fields
  }

  /** The type itself, or its nearest base that this version knows. */
  #nearest(name: string, declared: string | undefined): string {
    let type = this.types.dataType(name)
    if (type === undefined) throw new Error(`the lab's type table has no data type ${name}`)
    if (declared !== undefined && !this.types.extendsData(name, declared)) throw new Error(`${name} does not extend ${declared}`)
    while (type.since > this.version && type.parent !== '' && type.name !== declared) {
      const parent = this.types.dataType(type.parent)
      if (parent === undefined) break
      type = parent
    }
    return type.name
  }

  #reference(ref: LabRef, attributes: string): string {
    return ` type="${escape(ref.$ref)}"${attributes}>${escape(ref.value)}`
  }

  #array(item: Field, values: readonly LabValue[]): string {
    const name = item.ref ? 'ManagedObjectReference' : item.type === 'any' ? 'anyType' : xmlName(item.type)
    const typeName = item.ref ? 'ManagedObjectReference' : item.type === 'any' ? 'AnyType' : capital(xmlName(item.type))
    let xml = ` xsi:type="ArrayOf${typeName}">`
    const single: Field = { ...item, array: false }
    for (const value of values) {
      if (value === undefined) continue
      if (item.ref && isRef(value)) xml += `<${name}${this.#reference(value, ' xsi:type="ManagedObjectReference"')}</${name}>`
      else if (item.type === 'any' || PRIMITIVES.has(item.type) || this.types.enumValues(item.type) !== undefined) {
        xml += `<${name}${this.any(value, single)}</${name}>`
      } else {
        if (!isObject(value)) throw new Error(`an item of ${item.type}[] is no data object`)
        const type = this.#nearest(value.$type, item.type)
        xml += `<${name} xsi:type="${type}">${this.#content(type, value)}</${name}>`
      }
    }
    return xml
  }
}

const item = (type: string, ref = false): Field => ({ name: 'item', type, ref, array: true, optional: true, since: 0 })

function inferItem(types: TypeTable, values: readonly LabValue[]): Field {
  const first = values.find((value) => value !== undefined)
  if (first === undefined) return item('any')
  if (isRef(first)) return item('ManagedObject', true)
  if (isList(first)) throw new Error('arrays of arrays do not exist in this API')
  if (!isObject(first)) return item(scalarType(first))
  let type = first.$type
  const fits = (name: string): boolean =>
    values.every((value) => value === undefined || (isObject(value) && types.extendsData(value.$type, name)))
  while (!fits(type)) {
    const parent = types.dataType(type)?.parent
    if (parent === undefined || parent === '' || parent === 'DynamicData')
      throw new Error(`items of one array have no common type: ${first.$type}`)
    type = parent
  }
  return item(type)
}

/** Item type of `ArrayOf<name>`. */
function itemField(types: TypeTable, name: string): Field {
  if (name === 'ManagedObjectReference') return item('ManagedObject', true)
  if (types.dataType(name) !== undefined || types.enumValues(name) !== undefined) return item(name)
  const small = name.charAt(0).toLowerCase() + name.slice(1)
  if (small === 'anyType') return item('any')
  if (PRIMITIVES.has(small)) return item(small)
  throw new Error(`the lab's type table has no item type ${name}`)
}

function scalarType(value: LabValue): string {
  switch (typeof value) {
    case 'string':
      return 'string'
    case 'boolean':
      return 'boolean'
    case 'bigint':
      return 'long'
    case 'number':
      return !Number.isInteger(value) ? 'double' : value > 0x7fffffff || value < -0x80000000 ? 'long' : 'int'
    default:
      if (value instanceof Date) return 'dateTime'
      throw new Error('a value of unknown kind in an anyType place')
  }
}

const capital = (name: string): string => name.charAt(0).toUpperCase() + name.slice(1)
const xmlName = (type: string): string => (type === 'binary' ? 'base64Binary' : type)
const xsd = (type: string): string => `xsd:${xmlName(type)}`

function scalar(type: string, value: LabValue): string {
  if (value instanceof Date) return value.toISOString()
  switch (type) {
    case 'int':
    case 'long':
    case 'short':
    case 'byte':
      if (typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value))) return String(value)
      throw new Error(`${textOf(value)} is no ${type}`)
    case 'boolean':
      if (typeof value === 'boolean') return String(value)
      throw new Error(`${textOf(value)} is no boolean`)
    case 'dateTime':
      throw new Error(`${textOf(value)} is no Date`)
    default:
      if (typeof value === 'object') throw new Error(`an object where a ${type} is declared`)
      return escape(textOf(value))
  }
}

/** XML text and attribute escaping; characters XML 1.0 cannot hold become U+FFFD, as a name of a VM may contain any. */
export function escape(text: string): string {
  if (!/[&<>"'\u0000-\u001f\ud800-\udfff\ufffe\uffff]/.test(text)) return text
  return text
    .toWellFormed()
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll('\r', '&#13;')
    .replaceAll('\n', '&#10;')
    .replaceAll('\t', '&#9;')
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd')
}
