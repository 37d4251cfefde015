import { AgentError } from '../core/index.ts'

/** A VMX has some hundred lines; more than this is not one. Bytes. */
const LARGEST = 8 * 1024 * 1024

/**
 * A VM's `.vmx` file: `key = "value"` lines, keys compared without case, order and unknown keys kept. `#` lines are comments.
 * Inside a value `"`, `|` and control characters are written `|22`, `|7C`, `|0A`.
 */
export class Vmx {
  /** Lower-case key → key as written and value. */
  readonly #entries = new Map<string, { readonly key: string; readonly value: string }>()

  /** INTEGRITY when the text is too large or has a line that is neither comment nor `key = value`. */
  static parse(bytes: Uint8Array, name: string): Vmx {
    if (bytes.length > LARGEST)
      throw new AgentError('INTEGRITY', `${name} is too large to be a VM's configuration file.`, { subject: name })
    const text = decode(bytes)
    const vmx = new Vmx()
    for (const [index, raw] of text.split(/\r?\n/).entries()) {
      const line = raw.trim()
      if (line === '' || line.startsWith('#')) continue
      const match = /^([^\s=]+)\s*=\s*(.*)$/s.exec(line)
      const [key, value] = [match?.[1], match?.[2]]
      if (key === undefined || value === undefined) {
        throw new AgentError('INTEGRITY', `Line ${index + 1} of ${name} is not of the form key = "value".`, { subject: name })
      }
      vmx.set(key, unescapeValue(value.startsWith('"') && value.endsWith('"') && value.length >= 2 ? value.slice(1, -1) : value))
    }
    return vmx
  }

  get(key: string): string | undefined {
    return this.#entries.get(key.toLowerCase())?.value
  }

  set(key: string, value: string): void {
    const known = this.#entries.get(key.toLowerCase())
    this.#entries.set(key.toLowerCase(), { key: known?.key ?? key, value })
  }

  /** Removes every key that `test` (given it in lower case) accepts. */
  remove(test: (key: string) => boolean): void {
    for (const key of this.#entries.keys()) if (test(key)) this.#entries.delete(key)
  }

  *[Symbol.iterator](): Generator<readonly [key: string, value: string]> {
    for (const { key, value } of this.#entries.values()) yield [key, value]
  }

  /** UTF-8 text with the encoding line first. */
  format(): string {
    const lines = ['.encoding = "UTF-8"']
    for (const [key, value] of this) if (key.toLowerCase() !== '.encoding') lines.push(`${key} = "${escapeValue(value)}"`)
    return `${lines.join('\n')}\n`
  }
}

/** The file names its own encoding in an ASCII line; hosted products also write code pages. */
function decode(bytes: Uint8Array): string {
  const ascii = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
  const named = /^\s*\.encoding\s*=\s*"?([^"\r\n]+)"?/im.exec(ascii)?.[1] ?? 'UTF-8'
  try {
    return new TextDecoder(named).decode(bytes)
  } catch {
    // An encoding this machine does not know: keys are ASCII in all of them, and values come back as they went in.
    return ascii
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being escaped
const escapeValue = (value: string): string =>
  value.replace(/[\u0000-\u001f"|]/g, (character) => `|${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`)

const unescapeValue = (value: string): string =>
  value.replace(/\|([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
