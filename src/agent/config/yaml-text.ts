import { type Document, isMap, isNode, isScalar, LineCounter, type Node, parseDocument } from 'yaml'
import type { ConfigProblem } from './problem.ts'
import { type ConfigText, type Path, textOf } from './problems.ts'

/** Aliases of aliases are a known way to make much of little. */
const MOST_ALIASES = 1000

/** A file of YAML. Imported only for a file that is there: the parser is as much to load as fifty of ours. */
export function readText(file: string, text: string): ConfigText {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const at = (offset: number): { line: number; column: number } => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(1, line), column: Math.max(1, col) }
  }
  const problems = document.errors.map(
    ({ message, pos }): ConfigProblem => ({ file, ...at(pos[0]), at: '', message: `it is not valid YAML: ${message}`, meant: undefined }),
  )
  const raw: unknown = problems.length > 0 ? {} : (document.toJS({ maxAliasCount: MOST_ALIASES }) ?? {})
  const placeOf = (path: Path, key = false): { line: number; column: number } => at(nodeAt(document, path, key)?.range?.[0] ?? 0)
  return textOf(file, { raw, problems, placeOf })
}

function nodeAt(document: Document, path: Path, key: boolean): Node | undefined {
  for (let length = path.length; length >= 0; length--) {
    const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true)
    const found = length > 0 && (key || !isNode(node)) ? keyAt(document, path.slice(0, length)) : node
    if (isNode(found)) return found
  }
  return undefined
}

/** The key of a pair. */
function keyAt(document: Document, path: Path): Node | undefined {
  const map = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true)
  const pair = isMap(map) ? map.items.find(({ key }) => isScalar(key) && String(key.value) === String(path.at(-1))) : undefined
  return isNode(pair?.key) ? pair.key : undefined
}
