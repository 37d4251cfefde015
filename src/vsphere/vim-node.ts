import { AgentError, type MoRef } from '../core/index.ts'

const NO_CHILDREN: readonly VimNode[] = Object.freeze([])

/**
 * One element of an answer, as the server sent it. Names carry no namespace prefix: every payload is in urn:vim25.
 * Accessors of a missing element give undefined; a value of the wrong shape is INTEGRITY, never a guess.
 */
export class VimNode {
  readonly name: string
  /** xsi:type without prefix for vim25 types (`VirtualDisk`), with `xsd:` for XML Schema scalars; undefined when none was sent. */
  readonly type: string | undefined
  /** Attribute `type` of a managed object reference. */
  readonly refType: string | undefined
  readonly text: string
  readonly children: readonly VimNode[]

  constructor(
    name: string,
    init: {
      readonly type?: string | undefined
      readonly refType?: string | undefined
      readonly text?: string | undefined
      readonly children?: readonly VimNode[] | undefined
    } = {},
  ) {
    this.name = name
    this.type = init.type
    this.refType = init.refType
    this.text = init.text ?? ''
    this.children = init.children === undefined || init.children.length === 0 ? NO_CHILDREN : init.children
  }

  /** First child with this name; a dotted path goes deeper. */
  get(path: string): VimNode | undefined {
    let found: VimNode | undefined
    let within: readonly VimNode[] = this.children
    for (const part of path.split('.')) {
      found = within.find((child) => child.name === part)
      if (found === undefined) return undefined
      within = found.children
    }
    return found
  }

  /** Every child with this name (an array property). */
  all(name: string): readonly VimNode[] {
    return this.children.filter((child) => child.name === name)
  }

  /** Items of an ArrayOf… value: every child, whatever its name. */
  items(): readonly VimNode[] {
    return this.children
  }

  string(path: string): string | undefined {
    return this.get(path)?.text
  }

  /** An exact integer or a finite float; INTEGRITY for anything else, also for an xs:long beyond 2^53. */
  number(path: string): number | undefined {
    return this.get(path)?.asNumber()
  }

  boolean(path: string): boolean | undefined {
    return this.get(path)?.asBoolean()
  }

  ref(path: string): MoRef | undefined {
    return this.get(path)?.asRef()
  }

  asNumber(): number {
    const text = this.text.trim()
    const value = Number(text)
    if (text === '' || !Number.isFinite(value) || (/^[+-]?\d+$/.test(text) && !Number.isSafeInteger(value))) {
      throw new AgentError(
        'INTEGRITY',
        `The server sent ${JSON.stringify(text.slice(0, 40))} for ${this.name}, which is not a usable number.`,
      )
    }
    return value
  }

  asBoolean(): boolean {
    const text = this.text.trim()
    if (text === 'true' || text === '1') return true
    if (text === 'false' || text === '0') return false
    throw new AgentError('INTEGRITY', `The server sent ${JSON.stringify(text.slice(0, 40))} for ${this.name}, which is not true or false.`)
  }

  /** This element itself as a reference; undefined when it is none. */
  asRef(): MoRef | undefined {
    return this.refType === undefined || this.text === '' ? undefined : { type: this.refType, value: this.text }
  }
}
