import { VimFault } from './fault.ts'
import type { Element } from './request-reader.ts'
import type { Field, TypeTable } from './type-table.ts'
import { labRef, type LabObject, type LabRef, type LabValue } from './value.ts'

const refuse = (message: string): never => {
  throw new VimFault('InvalidRequest', {}, message)
}

/**
 * Turns request elements into LabValues by their declared types, as strictly as a real server: declaration order, required fields, known
 * fields of the client's version, xsi:type that extends the declared type. Everything else is fault InvalidRequest.
 */
export class Decoder {
  readonly #types: TypeTable
  readonly #version: number

  constructor(types: TypeTable, version: number) {
    this.#types = types
    this.#version = version
  }

  reference(element: Element): LabRef {
    const value = element.text.trim()
    if (value === '' || element.children.length > 0) refuse(`The element ${element.name} is not a managed object reference.`)
    return labRef(element.refType ?? 'ManagedObject', value)
  }

  /** Arguments of a method after `_this`. */
  args(method: string, params: readonly Field[], elements: readonly Element[]): Record<string, LabValue> {
    return this.#fields(params, elements, `method ${method}`, 'parameter')
  }

  #fields(declared: readonly Field[], elements: readonly Element[], owner: string, word: string): Record<string, LabValue> {
    const values: Record<string, LabValue> = {}
    const fields = declared.filter((field) => field.since <= this.#version)
    let at = 0
    for (const field of fields) {
      const found: Element[] = []
      for (let element = elements[at]; element !== undefined && element.name === field.name; element = elements[++at]) found.push(element)
      if (found.length === 0) {
        if (!field.optional && !field.array) refuse(`Required ${word} ${field.name} is missing from ${owner}.`)
        continue
      }
      if (found.length > 1 && !field.array) refuse(`The ${word} ${field.name} of ${owner} is given twice.`)
      if (field.array) values[field.name] = found.map((element) => this.#value(field, element))
      else if (found[0] !== undefined && !found[0].nil) values[field.name] = this.#value(field, found[0])
    }
    const left = elements[at]
    if (left !== undefined) {
      const known = declared.some((field) => field.name === left.name)
      refuse(
        known
          ? `The ${word} ${left.name} of ${owner} is out of order or not known in version ${this.#types.versions[this.#version]}.`
          : `Unknown ${word} ${left.name} in ${owner}.`,
      )
    }
    return values
  }

  #value(field: Field, element: Element): LabValue {
    if (field.ref) return this.reference(element)
    const enumeration = this.#types.enumValues(field.type)
    if (enumeration !== undefined) {
      const text = element.text.trim()
      return enumeration.has(text) ? text : refuse(`The value '${text}' is not one of ${field.type}.`)
    }
    if (this.#types.dataType(field.type) !== undefined) return this.#object(field.type, element)
    if (field.type === 'any') return this.#any(element)
    return this.#scalar(field.type, element)
  }

  #object(declared: string, element: Element): LabObject {
    const name = element.xsiType ?? declared
    const type = this.#types.dataType(name)
    if (type === undefined || type.since > this.#version || !this.#types.extendsData(name, declared)) {
      return refuse(`The request refers to an unexpected or unknown type: ${name} where ${declared} is declared.`)
    }
    return { $type: name, ...this.#fields(this.#types.fields(name), element.children, `data object of type ${name}`, 'property') }
  }

  #any(element: Element): LabValue {
    const type = element.xsiType
    if (type === undefined) return refuse(`The request refers to an unexpected or unknown type: ${element.name} has no xsi:type.`)
    if (type.startsWith('xsd:')) return this.#scalar(type.slice(4), element)
    if (type === 'ManagedObjectReference') return this.reference(element)
    if (type.startsWith('ArrayOf'))
      return element.children.map((child) => this.#any(child.xsiType === undefined ? typedByName(child) : child))
    if (this.#types.enumValues(type) !== undefined) return element.text.trim()
    return this.#object(type, element)
  }

  #scalar(type: string, element: Element): LabValue {
    if (element.children.length > 0) refuse(`The element ${element.name} holds elements where a ${type} is declared.`)
    const text = element.text
    const bad = (): never => refuse(`The value '${text.slice(0, 80)}' of ${element.name} is not a valid ${type}.`)
    switch (type) {
      case 'string':
      case 'anyURI':
      case 'binary':
      case 'base64Binary':
        return text
      case 'boolean': {
        const word = text.trim()
        return word === 'true' || word === '1' ? true : word === 'false' || word === '0' ? false : bad()
      }
      case 'int':
      case 'short':
      case 'byte':
      case 'long': {
        const word = text.trim()
        if (!/^[+-]?\d{1,20}$/.test(word)) return bad()
        const value = BigInt(word)
        const bits = type === 'long' ? 63n : type === 'int' ? 31n : type === 'short' ? 15n : 8n
        if (value >= 1n << bits || value < -(1n << bits)) return bad()
        return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
      }
      case 'double':
      case 'float': {
        const value = Number(text.trim())
        return text.trim() === '' || Number.isNaN(value) ? bad() : value
      }
      case 'dateTime': {
        const value = new Date(text.trim())
        return Number.isNaN(value.getTime()) ? bad() : value
      }
      default:
        return refuse(`The request refers to an unexpected or unknown type: ${type}.`)
    }
  }
}

/** Items of ArrayOfX are named after their type. */
function typedByName(element: Element): Element {
  const scalars = ['string', 'int', 'long', 'short', 'byte', 'boolean', 'double', 'float', 'dateTime', 'anyURI', 'base64Binary']
  return { ...element, xsiType: scalars.includes(element.name) ? `xsd:${element.name}` : element.name }
}
