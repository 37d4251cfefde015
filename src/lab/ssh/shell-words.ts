/**
 * The words of a simple command as a POSIX shell reads them: quotes, backslashes, blanks. Undefined for anything more (pipes, redirections,
 * expansions), which this lab's shell does not do and refuses rather than half does.
 */
export function shellWords(line: string): string[] | undefined {
  const words: string[] = []
  let word: string | undefined
  for (let at = 0; at < line.length; at++) {
    const character = line[at] ?? ''
    if (character === "'") {
      const end = line.indexOf("'", at + 1)
      if (end < 0) return undefined
      word = (word ?? '') + line.slice(at + 1, end)
      at = end
    } else if (character === '\\') {
      const next = line[++at]
      if (next === undefined) return undefined
      if (next !== '\n') word = (word ?? '') + next
    } else if (character === '"') {
      word ??= ''
      for (at++; line[at] !== '"'; at++) {
        const inside = line[at]
        if (inside === undefined || inside === '$' || inside === '`') return undefined
        const escaped = inside === '\\' && /["\\$`\n]/.test(line[at + 1] ?? '')
        if (escaped) at++
        word += escaped && line[at] === '\n' ? '' : line[at]
      }
    } else if (character === ' ' || character === '\t') {
      if (word !== undefined) words.push(word)
      word = undefined
    } else if (/[\n;&|<>()$`*?[\]#~!{}]/.test(character)) {
      return undefined
    } else {
      word = (word ?? '') + character
    }
  }
  if (word !== undefined) words.push(word)
  return words
}
