import { AgentError } from '../core/index.ts'

/** A file of settings has some dozen lines; more than this is not one. Bytes, and settings. */
const LARGEST = 1024 * 1024
const MOST_SETTINGS = 1000

/**
 * The settings of a `config.js`, in their order; the last of a name counts. Reads, never executes. CONFIG naming the line of whatever is no plain
 * setting. Format: docs/formats/config-js.md.
 */
export function parseConfigJs(bytes: Uint8Array, name: string): ReadonlyMap<string, string> {
  if (bytes.length > LARGEST) throw new AgentError('CONFIG', `${name} is too large to be a config.js.`, { subject: name })
  return new Reader(new TextDecoder('utf-8').decode(bytes), name).settings()
}

/** The same settings as text, one `KEY="value";` a line. Every value survives; USAGE for a name that JavaScript would not take. */
export function formatConfigJs(settings: Iterable<readonly [name: string, value: string]>): string {
  let text = ''
  for (const [key, value] of settings) {
    if (!/^[A-Za-z_$][\w$]*$/.test(key)) throw new AgentError('USAGE', `${JSON.stringify(key)} is no name of a setting.`, { subject: key })
    text += `${key}="${escaped(value)}";\n`
  }
  return text
}

const escaped = (value: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being escaped
  value.replace(/["\\\u0000-\u001f\u2028\u2029\ud800-\udfff]/g, (character) =>
    character === '"' || character === '\\' ? `\\${character}` : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

const SIMPLE: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', b: '\b', f: '\f', v: '\v' }

class Reader {
  readonly #text: string
  readonly #name: string
  #at = 0

  constructor(text: string, name: string) {
    this.#text = text
    this.#name = name
  }

  settings(): ReadonlyMap<string, string> {
    const settings = new Map<string, string>()
    for (;;) {
      while (this.#take(/(?:\s|;)+/y) !== undefined || this.#comment()) continue
      if (this.#at >= this.#text.length) return settings
      this.#take(/(?:var|let|const)(?=\s)/y)
      this.#blank()
      const key = this.#take(/[A-Za-z_$][\w$]*/y)
      this.#blank()
      if (key === undefined || this.#take(/=(?!=)/y) === undefined) throw this.#refused('is no setting of the form KEY="value";')
      this.#blank()
      settings.set(key, this.#value())
      if (settings.size > MOST_SETTINGS) throw this.#refused(`is one of more than ${MOST_SETTINGS} settings`)
      this.#endOfSetting()
    }
  }

  /** What follows a value: a semicolon, the end of the line, or of the file. */
  #endOfSetting(): void {
    this.#take(/[^\S\r\n\u2028\u2029]+/y)
    while (this.#comment()) this.#take(/[^\S\r\n\u2028\u2029]+/y)
    if (this.#take(/;|\r?\n|[\r\u2028\u2029]/y) === undefined && this.#at < this.#text.length)
      throw this.#refused('goes on behind its value; config.js is read, not executed')
  }

  #value(): string {
    const quote = this.#take(/["']/y)
    if (quote !== undefined) return this.#string(quote)
    const plain = this.#take(/(?:-?\d+(?:\.\d+)?|true|false)(?![\w$.])/y)
    if (plain === undefined) throw this.#refused('has a value that is no text, number, true or false; config.js is read, not executed')
    return plain
  }

  #string(quote: string): string {
    let value = ''
    for (;;) {
      const plain = this.#take(quote === '"' ? /[^"\\\r\n]+/y : /[^'\\\r\n]+/y)
      if (plain !== undefined) value += plain
      else if (this.#take(quote === '"' ? /"/y : /'/y) !== undefined) return value
      else if (this.#take(/\\/y) !== undefined) value += this.#escape()
      else throw this.#refused('has a text without its closing quotation mark')
    }
  }

  #escape(): string {
    if (this.#take(/\r\n|[\n\r\u2028\u2029]/y) !== undefined) return ''
    const hex = this.#take(/x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}/y) ?? this.#take(/u\{[0-9A-Fa-f]{1,6}\}/y)
    if (hex !== undefined) {
      const code = Number.parseInt(hex.replaceAll(/[xu{}]/g, ''), 16)
      if (code > 0x10ffff) throw this.#refused('has an escape that is no character')
      return String.fromCodePoint(code)
    }
    if (this.#take(/0(?!\d)/y) !== undefined) return '\0'
    if (this.#take(/(?=[xu\d])/y) !== undefined) throw this.#refused('has an escape that is no character')
    const character = this.#take(/[\s\S]/y)
    if (character === undefined) throw this.#refused('has a text without its closing quotation mark')
    return SIMPLE[character] ?? character
  }

  #blank(): void {
    while (this.#take(/\s+/y) !== undefined || this.#comment()) continue
  }

  #comment(): boolean {
    if (this.#take(/\/\/[^\r\n\u2028\u2029]*/y) !== undefined) return true
    if (this.#take(/\/\*/y) === undefined) return false
    const end = this.#text.indexOf('*/', this.#at)
    if (end < 0) throw this.#refused('begins a comment that does not end')
    this.#at = end + 2
    return true
  }

  /** What `pattern` (sticky) matches here; the place moves behind it. */
  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0]
    if (found !== undefined) this.#at += found.length
    return found
  }

  #refused(what: string): AgentError {
    const line = this.#text.slice(0, Math.min(this.#at, this.#text.length)).split(/\r\n|\r|\n/).length
    return new AgentError('CONFIG', `Line ${line} of ${this.#name} ${what}.`, {
      subject: this.#name,
      next: 'Write every setting as KEY="value"; with backslashes doubled.',
    })
  }
}
