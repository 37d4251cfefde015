import { AgentError, type MoRef } from '../core/index.ts'
import { VimNode } from './vim-node.ts'

/**
 * Values to send. A `VimNode` is echoed as the server gave it, under the field's name. Undefined and empty arrays are left out; an array
 * repeats the element.
 */
export type VimValue = string | number | bigint | boolean | Date | MoRef | VimData | VimNode | undefined | readonly VimValue[]

/** Fields in declaration order, base class first: servers are strict about it. The order written is the order sent. */
export type VimFields = { readonly [field: string]: VimValue }

/** A data object, or a typed scalar, to send. Made by `data`, `typed` and `anyValue`. */
export class VimData {
  readonly fields: VimFields
  readonly xsiType: string | undefined
  readonly scalar: string | undefined

  constructor(fields: VimFields, xsiType?: string, scalar?: string) {
    this.fields = fields
    this.xsiType = xsiType
    this.scalar = scalar
  }
}

/** A data object whose declared type is its own. */
export const data = (fields: VimFields): VimData => new VimData(fields)

/** A data object with xsi:type, needed wherever the declared type is abstract or a base class. */
export const typed = (xsiType: string, fields: VimFields): VimData => new VimData(fields, xsiType)

/** A scalar in an anyType field: `xsd:string`, `xsd:boolean`, `xsd:int`, `xsd:long`. */
export const anyValue = (xsiType: string, value: string | number | boolean | bigint): VimData => new VimData({}, xsiType, scalar(value))

/** `<name …>…</name>` for one field, or nothing. USAGE when a text cannot be written in XML. */
export function encodeField(name: string, value: VimValue): string {
  if (value === undefined) return ''
  if (Array.isArray(value)) return value.map((item: VimValue) => encodeField(name, item)).join('')
  if (value instanceof VimData) {
    const body = value.scalar === undefined ? encodeFields(value.fields) : escapeText(value.scalar)
    return element(name, typeAttribute(value.xsiType), body)
  }
  if (value instanceof VimNode) return encodeNode(name, value)
  if (value instanceof Date) return element(name, '', value.toISOString())
  if (typeof value === 'object') {
    const { type, value: id } = value as MoRef
    return element(name, ` type="${escapeAttribute(type)}"`, escapeText(id))
  }
  return element(name, '', escapeText(scalar(value)))
}

export function encodeFields(fields: VimFields): string {
  let out = ''
  for (const [name, value] of Object.entries(fields)) out += encodeField(name, value)
  return out
}

function encodeNode(name: string, node: VimNode): string {
  const attributes = (node.refType === undefined ? '' : ` type="${escapeAttribute(node.refType)}"`) + typeAttribute(node.type)
  const body = node.children.length > 0 ? node.children.map((child) => encodeNode(child.name, child)).join('') : escapeText(node.text)
  return element(name, attributes, body)
}

const element = (name: string, attributes: string, body: string): string => `<${name}${attributes}>${body}</${name}>`
const typeAttribute = (type: string | undefined): string => (type === undefined ? '' : ` xsi:type="${escapeAttribute(type)}"`)

function scalar(value: string | number | bigint | boolean): string {
  if (typeof value === 'number' && (!Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value)))) {
    throw new AgentError('INTERNAL', `The number ${value} cannot be sent exactly.`)
  }
  return String(value)
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what XML 1.0 cannot carry
const UNSENDABLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/

/** Text content; carriage returns as references, because a parser would turn them into line feeds. */
export function escapeText(text: string): string {
  if (UNSENDABLE.test(text) || !text.isWellFormed()) {
    throw new AgentError('USAGE', `The text ${JSON.stringify(text.slice(0, 60))} holds a character that cannot be sent to vSphere.`, {
      next: 'Leave the control character out.',
    })
  }
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('\r', '&#13;')
}

const escapeAttribute = (text: string): string =>
  escapeText(text).replaceAll('"', '&quot;').replaceAll('\n', '&#10;').replaceAll('\t', '&#9;')
