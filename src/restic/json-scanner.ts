import { AgentError } from '../core/index.ts'

const MAX_DEPTH = 64

/**
 * Reads JSON straight from bytes, value by value, strictly (RFC 8259). Index files and trees of disk images hold tens of thousands of
 * ids; here an id goes from its hex digits into its 32 bytes without a string, an object or a garbage collection in between.
 * The caller pulls: `beginObject`, then `nextKey` until undefined, reading or skipping each value; arrays alike. Throws INTEGRITY.
 */
export class JsonScanner {
  readonly #bytes: Buffer
  readonly #what: string
  #position = 0
  readonly #first: boolean[] = []

  /** `what` names the document in errors: `index file abc`. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#what = what
  }

  fail(problem: string): never {
    throw new AgentError('INTEGRITY', `The ${this.#what} cannot be read: ${problem} at byte ${this.#position}.`)
  }

  beginObject(): void {
    this.#open(0x7b, 'an object was expected')
  }

  /** The next key of the current object, its value standing next; undefined after the last. */
  nextKey(): string | undefined {
    if (!this.#more(0x7d)) return undefined
    const key = this.string()
    if (this.#peek() !== 0x3a) this.fail('a colon was expected')
    this.#position++
    return key
  }

  beginArray(): void {
    this.#open(0x5b, 'an array was expected')
  }

  /** True when an element of the current array stands next; false after the last. */
  nextElement(): boolean {
    return this.#more(0x5d)
  }

  /** True, and past it, when a `null` stands next. */
  null(): boolean {
    if (this.#peek() !== 0x6e) return false
    this.#literal('null')
    return true
  }

  string(): string {
    if (this.#peek() !== 0x22) this.fail('a string was expected')
    const start = this.#position + 1
    let at = start
    let plain = true
    for (;;) {
      const byte = this.#bytes[at]
      if (byte === undefined) this.fail('a string does not end')
      if (byte === 0x22) break
      if (byte < 0x20) this.fail('a string holds a control character')
      if (byte === 0x5c) {
        plain = false
        at++
      } else if (byte >= 0x80) plain = false
      at++
    }
    const raw = plain ? this.#bytes.toString('latin1', start, at) : this.#escaped(start, at)
    this.#position = at + 1
    return raw
  }

  /** A whole number from 0 to 2^53 - 1. */
  uint(): number {
    this.#peek()
    const start = this.#position
    let value = 0
    let byte = this.#bytes[this.#position]
    while (byte !== undefined && byte >= 0x30 && byte <= 0x39) {
      value = value * 10 + (byte - 0x30)
      if (value > Number.MAX_SAFE_INTEGER) this.fail('a number is too large')
      byte = this.#bytes[++this.#position]
    }
    if (this.#position === start) this.fail('a whole number was expected')
    if (this.#bytes[start] === 0x30 && this.#position - start > 1) this.fail('a number begins with zero')
    if (byte === 0x2e || byte === 0x65 || byte === 0x45) this.fail('a whole number was expected')
    return value
  }

  /** A string of 64 lower-case hex digits, as 32 bytes into `into` at `offset`. */
  id(into: Uint8Array, offset: number): void {
    if (this.#peek() !== 0x22) this.fail('an id was expected')
    const bytes = this.#bytes
    const start = this.#position + 1
    for (let index = 0; index < 32; index++) {
      const high = HEX[bytes[start + index * 2] ?? 0] ?? 255
      const low = HEX[bytes[start + index * 2 + 1] ?? 0] ?? 255
      if ((high | low) > 15) this.fail('an id of 64 hex digits was expected')
      into[offset + index] = high * 16 + low
    }
    if (bytes[start + 64] !== 0x22) this.fail('an id of 64 hex digits was expected')
    this.#position = start + 65
  }

  /** Where it stands, to come back to with `goBack` as long as no object or array was begun or ended since. */
  get position(): number {
    return this.#position
  }

  goBack(position: number): void {
    this.#position = position
  }

  /** Past these very bytes when they stand next, blanks and all; else false, and nowhere. */
  pass(text: Uint8Array): boolean {
    for (let index = 0; index < text.length; index++) if (this.#bytes[this.#position + index] !== text[index]) return false
    this.#position += text.length
    return true
  }

  /** Passes over any value. */
  skip(): void {
    const byte = this.#peek()
    if (byte === 0x7b) {
      this.beginObject()
      while (this.nextKey() !== undefined) this.skip()
    } else if (byte === 0x5b) {
      this.beginArray()
      while (this.nextElement()) this.skip()
    } else if (byte === 0x22) this.string()
    else if (byte === 0x74) this.#literal('true')
    else if (byte === 0x66) this.#literal('false')
    else if (byte === 0x6e) this.#literal('null')
    else this.#number()
  }

  /** Nothing but blanks may follow. */
  end(): void {
    if (this.#peek() !== undefined) this.fail('more text follows the document')
  }

  #open(bracket: number, problem: string): void {
    if (this.#peek() !== bracket) this.fail(problem)
    if (this.#first.length >= MAX_DEPTH) this.fail('values are nested too deeply')
    this.#first.push(true)
    this.#position++
  }

  #more(bracket: number): boolean {
    const byte = this.#peek()
    if (byte === bracket) {
      this.#first.pop()
      this.#position++
      return false
    }
    const last = this.#first.length - 1
    if (this.#first[last] === true) this.#first[last] = false
    else {
      if (byte !== 0x2c) this.fail('a comma was expected')
      this.#position++
      if (this.#peek() === bracket) this.fail('a comma stands before a closing bracket')
    }
    if (this.#peek() === undefined) this.fail('the text ends too early')
    return true
  }

  /** The next byte that is no blank, not passed. */
  #peek(): number | undefined {
    for (;;) {
      const byte = this.#bytes[this.#position]
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte
      this.#position++
    }
  }

  #literal(word: string): void {
    if (this.#bytes.toString('latin1', this.#position, this.#position + word.length) !== word) this.fail('a value was expected')
    this.#position += word.length
  }

  #number(): void {
    const match = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/u.exec(this.#bytes.toString('latin1', this.#position, this.#position + 400))
    if (match === null) this.fail('a value was expected')
    this.#position += match[0].length
  }

  #escaped(start: number, end: number): string {
    try {
      const value: unknown = JSON.parse(this.#bytes.toString('utf8', start - 1, end + 1))
      if (typeof value === 'string') return value
    } catch (error) {
      throw new AgentError('INTEGRITY', `The ${this.#what} cannot be read: a string is not valid JSON at byte ${start}.`, { cause: error })
    }
    return this.fail('a string was expected')
  }
}

const HEX = new Uint8Array(256).fill(255)
for (let digit = 0; digit < 16; digit++) HEX[digit.toString(16).charCodeAt(0)] = digit
