/** A file under check: its path from the top of the repository, with `/`, and its text. */
export type SourceFile = { readonly path: string; readonly text: string }

/** A broken rule, printed as `path:line: what`. */
export type Finding = { readonly path: string; readonly line: number; readonly what: string }

export const lineAt = (text: string, offset: number): number => text.slice(0, offset).split('\n').length

const REGEX_MAY_FOLLOW = /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|yield|await|throw))\s*$/

/**
 * The same text with comments blanked out, and with `strings: 'blank'` the contents of string, template and regular-expression literals
 * too. Every offset and line stays where it was, so that a rule can search the result and report the place.
 */
export function codeOf(text: string, strings: 'keep' | 'blank'): string {
  let out = ''
  let index = 0
  /** For each template literal we are inside an expression of: the number of open braces in that expression. */
  const templates: number[] = []
  const take = (end: number, kind: 'code' | 'comment' | 'literal'): void => {
    const part = text.slice(index, end)
    out += kind === 'code' || (kind === 'literal' && strings === 'keep') ? part : part.replace(/[^\n]/g, ' ')
    index = end
  }
  const templateBody = (): void => {
    const end = templateEnd(text, index)
    take(end, 'literal')
    if (text.startsWith('${', index)) {
      take(index + 2, 'code')
      templates.push(0)
    } else {
      take(Math.min(index + 1, text.length), 'code')
    }
  }
  while (index < text.length) {
    const char = text[index] ?? ''
    if (text.startsWith('//', index)) take(indexOr(text, '\n', index), 'comment')
    else if (text.startsWith('/*', index)) take(Math.min(indexOr(text, '*/', index + 2) + 2, text.length), 'comment')
    else if (char === "'" || char === '"') {
      take(index + 1, 'code')
      take(quoteEnd(text, index, char), 'literal')
      take(Math.min(index + 1, text.length), 'code')
    } else if (char === '`') {
      take(index + 1, 'code')
      templateBody()
    } else if (char === '/' && REGEX_MAY_FOLLOW.test(out.slice(-40)) && regexEnd(text, index) !== undefined) {
      take(index + 1, 'code')
      take(regexEnd(text, index - 1) ?? index, 'literal')
      take(index + 1, 'code')
    } else if (char === '}' && templates.at(-1) === 0) {
      templates.pop()
      take(index + 1, 'code')
      templateBody()
    } else {
      const depth = templates.at(-1)
      if (depth !== undefined && (char === '{' || char === '}')) templates[templates.length - 1] = depth + (char === '{' ? 1 : -1)
      take(index + 1, 'code')
    }
  }
  return out
}

const indexOr = (text: string, needle: string, from: number): number => {
  const found = text.indexOf(needle, from)
  return found < 0 ? text.length : found
}

function quoteEnd(text: string, from: number, quote: string): number {
  let end = from
  while (end < text.length && text[end] !== quote && text[end] !== '\n') end += text[end] === '\\' ? 2 : 1
  return Math.min(end, text.length)
}

function templateEnd(text: string, from: number): number {
  let end = from
  while (end < text.length && text[end] !== '`' && !text.startsWith('${', end)) end += text[end] === '\\' ? 2 : 1
  return Math.min(end, text.length)
}

/** Offset of the `/` that closes the regular expression opened at `from`; undefined when its line has none, so it is a division. */
function regexEnd(text: string, from: number): number | undefined {
  let inClass = false
  for (let end = from + 1; end < text.length && text[end] !== '\n'; end++) {
    const char = text[end]
    if (char === '\\') end++
    else if (char === '[') inClass = true
    else if (char === ']') inClass = false
    else if (char === '/' && !inClass) return end
  }
  return undefined
}
