import { SaxesParser, type SaxesTagNS } from 'saxes'
import { AgentError } from '../core/index.ts'
import { VimNode } from './vim-node.ts'

const XSI = 'http://www.w3.org/2001/XMLSchema-instance'
const XSD = 'http://www.w3.org/2001/XMLSchema'
/** Deepest nesting taken. A 32-level snapshot tree or a 32-link disk chain stays below 100. */
const MAX_DEPTH = 200

type Open = { name: string; type: string | undefined; refType: string | undefined; text: string; children: VimNode[] }

/**
 * Reads one XML document fed in chunks of any size into a tree of `VimNode`. Refuses, with INTEGRITY: broken or truncated XML, a DOCTYPE
 * (so no entity of its own can be defined), bytes that are not UTF-8, nesting deeper than 200, more than `maxBytes`.
 */
export class XmlReader {
  readonly #maxBytes: number
  readonly #parser = new SaxesParser({ xmlns: true })
  readonly #decoder = new TextDecoder('utf-8', { fatal: true })
  readonly #stack: Open[] = []
  #bytes = 0
  #root: VimNode | undefined

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
    this.#parser.on('error', (error) => {
      throw error
    })
    this.#parser.on('doctype', () => {
      throw new Error('it contains a DOCTYPE')
    })
    this.#parser.on('opentag', (tag) => this.#open(tag))
    this.#parser.on('text', (text) => this.#text(text))
    this.#parser.on('cdata', (text) => this.#text(text))
    this.#parser.on('closetag', () => this.#close())
  }

  write(chunk: Uint8Array): void {
    this.#bytes += chunk.length
    if (this.#bytes > this.#maxBytes) throw refuse(`it is longer than ${this.#maxBytes} bytes`)
    this.#guard(() => this.#parser.write(this.#decoder.decode(chunk, { stream: true })))
  }

  /** The root element, once everything was written. */
  end(): VimNode {
    this.#guard(() => {
      const rest = this.#decoder.decode()
      if (rest !== '') this.#parser.write(rest)
      this.#parser.close()
    })
    if (this.#root === undefined) throw refuse('it is empty')
    return this.#root
  }

  #guard(run: () => void): void {
    try {
      run()
    } catch (error) {
      throw refuse(error instanceof Error ? (error.message.split('\n')[0] ?? 'unreadable') : String(error), error)
    }
  }

  #open(tag: SaxesTagNS): void {
    if (this.#stack.length >= MAX_DEPTH) throw new Error(`it is nested deeper than ${MAX_DEPTH}`)
    let type: string | undefined
    let refType: string | undefined
    for (const attribute of Object.values(tag.attributes)) {
      if (attribute.local !== 'type') continue
      if (attribute.uri === XSI) type = this.#typeName(attribute.value)
      else if (attribute.uri === '') refType = attribute.value
    }
    this.#stack.push({ name: tag.local, type, refType, text: '', children: [] })
  }

  #typeName(value: string): string {
    const colon = value.indexOf(':')
    if (colon < 0) return value
    const local = value.slice(colon + 1)
    return this.#parser.resolve(value.slice(0, colon)) === XSD ? `xsd:${local}` : local
  }

  #text(text: string): void {
    const open = this.#stack.at(-1)
    if (open !== undefined && open.children.length === 0) open.text += text
  }

  #close(): void {
    const open = this.#stack.pop()
    if (open === undefined) return
    const { name, type, refType, children } = open
    // Text beside child elements is the white space of indentation.
    const node = new VimNode(name, { type, refType, children, text: children.length === 0 ? open.text : '' })
    const parent = this.#stack.at(-1)
    if (parent === undefined) this.#root = node
    else parent.children.push(node)
  }
}

/** A whole document at once. */
export function readXml(text: string | Uint8Array, maxBytes = 64 * 1024 * 1024): VimNode {
  const reader = new XmlReader(maxBytes)
  reader.write(typeof text === 'string' ? Buffer.from(text) : text)
  return reader.end()
}

const refuse = (why: string, cause?: unknown): AgentError =>
  cause instanceof AgentError
    ? cause
    : new AgentError('INTEGRITY', `The server's answer cannot be read: ${why}.`, {
        cause,
        next: 'Check what answers at this address: a proxy in between, or another kind of server.',
      })
