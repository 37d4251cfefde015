import { SaxesParser } from 'saxes'
import { AgentError } from '../../core/index.ts'

/** The longest answer that is read: a listing of 1000 keys of the longest kind. Bytes */
export const MOST_XML_BYTES = 8 * 1024 * 1024
/** No answer of S3 is nested deeper than six. */
const MOST_DEPTH = 16
const MOST_ELEMENTS = 200_000

/** One element: its text, or its children by local name. */
export class XmlElement {
  readonly name: string
  text = ''
  readonly children: XmlElement[] = []

  constructor(name: string) {
    this.name = name
  }

  /** The text of a descendant, names joined by dots; undefined when there is none. */
  string(path: string): string | undefined {
    const [name, ...rest] = path.split('.')
    const child = this.children.find((each) => each.name === name)
    return rest.length === 0 ? child?.text : child?.string(rest.join('.'))
  }

  all(name: string): readonly XmlElement[] {
    return this.children.filter((each) => each.name === name)
  }
}

/**
 * The root of an XML answer, which must be called `root` where that is given. UNAVAILABLE, as for an answer that was damaged on its way, for: broken or truncated XML, a DOCTYPE (so that
 * no entity can be defined), bytes that are not UTF-8, too much of it, another root.
 */
export function readXmlAnswer(bytes: Uint8Array, from: string, root?: string): XmlElement {
  const refuse = (why: string, cause?: unknown): never => {
    throw new AgentError('UNAVAILABLE', `${from} gave an answer that is not S3's (${why}).`, {
      subject: from,
      next: 'Check the address of the repository: behind it must be an S3 server, and no web page or proxy.',
      cause,
    })
  }
  if (bytes.length > MOST_XML_BYTES) refuse(`longer than ${MOST_XML_BYTES} bytes`)
  let whole: XmlElement | undefined
  const open: XmlElement[] = []
  let elements = 0
  const parser = new SaxesParser({ xmlns: false })
  parser.on('error', (error) => refuse('broken XML', error))
  parser.on('doctype', () => refuse('with a DOCTYPE'))
  parser.on('opentag', ({ name }) => {
    if (open.length >= MOST_DEPTH || ++elements > MOST_ELEMENTS) refuse('too much of it')
    const element = new XmlElement(name.slice(name.indexOf(':') + 1))
    open.at(-1)?.children.push(element)
    whole ??= element
    open.push(element)
  })
  parser.on('text', (text) => {
    const element = open.at(-1)
    if (element !== undefined) element.text += text
  })
  parser.on('cdata', (text) => {
    const element = open.at(-1)
    if (element !== undefined) element.text += text
  })
  parser.on('closetag', () => void open.pop())
  try {
    parser.write(new TextDecoder('utf-8', { fatal: true }).decode(bytes)).close()
  } catch (error) {
    if (error instanceof AgentError) throw error
    refuse(error instanceof TypeError ? 'not UTF-8' : 'broken XML', error)
  }
  if (whole === undefined) return refuse('empty')
  if (root !== undefined && whole.name !== root) return refuse(`${JSON.stringify(whole.name.slice(0, 40))} instead of ${root}`)
  return whole
}
