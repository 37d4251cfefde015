import { AgentError } from '../core/index.ts'

/** The inside of Go's `strconv.Quote(text)`: how restic writes names before they go through JSON. */
export function goQuote(text: string): string {
  let quoted = ''
  for (const character of text.toWellFormed()) {
    const code = character.codePointAt(0) ?? 0
    const named = NAMED.get(character)
    if (named !== undefined) quoted += named
    else if (PRINTABLE.test(character)) quoted += character
    else if (code < 0x80) quoted += `\\x${hex(code, 2)}`
    else quoted += code < 0x1_0000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`
  }
  return quoted
}

/**
 * Undoes `goQuote`. Bytes written as \xNN that are not UTF-8 become U+FFFD: such names can be shown, not written again.
 * INTEGRITY for text that Go would refuse.
 */
export function goUnquote(quoted: string): string {
  if (!quoted.includes('\\') && !quoted.includes('"') && !quoted.includes('\n')) return quoted
  const bytes: Buffer[] = []
  const refuse = (): never => {
    throw new AgentError('INTEGRITY', `A tree holds the name ${JSON.stringify(quoted)}, which is not quoted as restic quotes names.`)
  }
  let rest = quoted
  while (rest !== '') {
    const plain = /^[^\\"\n]+/u.exec(rest)
    if (plain !== null) {
      bytes.push(Buffer.from(plain[0], 'utf8'))
      rest = rest.slice(plain[0].length)
      continue
    }
    const escape = /^\\(?:([abfnrtv\\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/u.exec(rest)
    if (escape === null) return refuse()
    const [whole, letter, byte, octal, short, long] = escape
    rest = rest.slice(whole.length)
    if (letter !== undefined) bytes.push(Buffer.from(LETTERS.get(letter) ?? letter))
    else if (byte !== undefined) bytes.push(Buffer.from([Number.parseInt(byte, 16)]))
    else if (octal !== undefined) {
      const value = Number.parseInt(octal, 8)
      if (value > 255) return refuse()
      bytes.push(Buffer.from([value]))
    } else {
      const code = Number.parseInt(short ?? long ?? '', 16)
      if (code > 0x10_ffff || (code >= 0xd800 && code <= 0xdfff)) return refuse()
      bytes.push(Buffer.from(String.fromCodePoint(code), 'utf8'))
    }
  }
  return Buffer.concat(bytes).toString('utf8')
}

const hex = (code: number, digits: number): string => code.toString(16).padStart(digits, '0')
/** Go's unicode.IsPrint: letters, marks, numbers, punctuation, symbols and the ASCII blank. */
const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u
const LETTERS: ReadonlyMap<string, string> = new Map([
  ['a', '\u0007'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['v', '\v'],
])
const NAMED: ReadonlyMap<string, string> = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ...[...LETTERS].map(([letter, character]): [string, string] => [character, `\\${letter}`]),
])
