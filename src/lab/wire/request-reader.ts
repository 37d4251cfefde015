import { SaxesParser } from 'saxes'
import { VimFault } from './fault.ts'

/** An element of a request: names without prefix, attributes that matter, text of leaves. */
export type Element = {
  readonly name: string
  readonly namespace: string
  /** Value of xsi:type: `xsd:string` for XML schema types whatever their prefix, the bare name otherwise. */
  readonly xsiType: string | undefined
  readonly nil: boolean
  /** Attribute `type` of a managed object reference. */
  readonly refType: string | undefined
  readonly children: Element[]
  text: string
}

const XSI = 'http://www.w3.org/2001/XMLSchema-instance'
const XSD = 'http://www.w3.org/2001/XMLSchema'
const MAX_DEPTH = 100
const MAX_ELEMENTS = 500_000

/** Parses a SOAP request into its element tree. Refuses document types, bad XML and nesting past 100 with InvalidRequest. */
export function readRequest(text: string): Element {
  const parser = new SaxesParser({ xmlns: true })
  const stack: Element[] = []
  let root: Element | undefined
  let count = 0
  const refuse = (message: string): never => {
    throw new VimFault('InvalidRequest', {}, message)
  }
  parser.on('error', (error) => refuse(`XML document could not be parsed: ${error.message}`))
  parser.on('doctype', () => refuse('XML documents with a DTD are not allowed.'))
  parser.on('opentag', (tag) => {
    if (stack.length >= MAX_DEPTH || ++count > MAX_ELEMENTS) refuse('XML document element count or depth exceeds the limit.')
    let xsiType: string | undefined
    let refType: string | undefined
    let nil = false
    for (const attribute of Object.values(tag.attributes)) {
      if (attribute.uri === XSI && attribute.local === 'type') {
        const colon = attribute.value.indexOf(':')
        const local = attribute.value.slice(colon + 1)
        const prefix = colon < 0 ? '' : attribute.value.slice(0, colon)
        const uri = parser.resolve(prefix)
        // Go's encoder writes `xsd:string` without declaring the prefix; real servers understand it.
        xsiType = uri === XSD || (uri === undefined && prefix === 'xsd') ? `xsd:${local}` : local
      } else if (attribute.uri === XSI && attribute.local === 'nil') nil = attribute.value === 'true' || attribute.value === '1'
      else if (attribute.uri === '' && attribute.local === 'type') refType = attribute.value
    }
    const element: Element = { name: tag.local, namespace: tag.uri, xsiType, nil, refType, children: [], text: '' }
    const parent = stack.at(-1)
    if (parent === undefined) root ??= element
    else parent.children.push(element)
    stack.push(element)
  })
  const onText = (part: string): void => {
    const element = stack.at(-1)
    if (element !== undefined) element.text += part
  }
  parser.on('text', onText)
  parser.on('cdata', onText)
  parser.on('closetag', () => void stack.pop())
  parser.write(text).close()
  return root ?? refuse('The request is empty.')
}

export type SoapRequest = {
  readonly method: string
  readonly namespace: string
  readonly self: Element
  readonly params: readonly Element[]
  readonly operationId: string | undefined
}

/** The method element of an envelope. Fault InvalidRequest for anything that is not a SOAP call. */
export function readCall(text: string): SoapRequest {
  const envelope = readRequest(text)
  const body = envelope.children.find((child) => child.name === 'Body')
  const [method, ...more] = body?.children ?? []
  if (envelope.name !== 'Envelope' || method === undefined || more.length > 0) {
    throw new VimFault('InvalidRequest', {}, 'The request is not a SOAP envelope with one method.')
  }
  const [self, ...params] = method.children
  if (self === undefined || self.name !== '_this') throw new VimFault('InvalidRequest', {}, 'Required parameter _this is missing.')
  const header = envelope.children.find((child) => child.name === 'Header')
  const operationId = header?.children.find((child) => child.name === 'operationID')?.text
  return { method: method.name, namespace: method.namespace, self, params, operationId }
}
