import { inspect } from 'node:util'

/** A password or token. Prints, logs and serialises as `***`; `reveal()` is called only where it goes on the wire or into a key. */
export class Secret {
  readonly #value: string

  constructor(value: string) {
    this.#value = value
  }

  reveal(): string {
    return this.#value
  }

  toString(): string {
    return '***'
  }

  toJSON(): string {
    return '***'
  }

  [inspect.custom](): string {
    return '***'
  }
}
