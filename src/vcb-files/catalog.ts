import { AgentError } from '../core/index.ts'

/** A catalog has some dozen lines; more than this is not one. Bytes. */
const LARGEST = 1024 * 1024

/** What a new catalog tells. Paths of a datastore are `[datastore] directory/file`. */
export type CatalogFacts = {
  readonly name: string
  readonly biosUuid: string
  readonly poweredOn: boolean
  readonly host: string
  /** Inventory paths. */
  readonly resourcePool: string | undefined
  readonly folder: string | undefined
  readonly time: Date
  /** The VM's configuration file, where it was. */
  readonly vmx: string
  /** `label` as `scsi0:0`; `file` in the export; `path` where it was. */
  readonly disks: readonly { readonly label: string; readonly file: string; readonly path: string }[]
}

/** Where else a VM is to go; what is left out stays. */
export type CatalogRewrite = {
  readonly host?: string | undefined
  readonly resourcePool?: string | undefined
  /** Old datastore name → new one. */
  readonly datastores?: Readonly<Record<string, string>> | undefined
}

/** One line. A comment or a blank has no key. `text` is the line without its ending. */
type Line = { readonly text: string; readonly ending: string; readonly key?: string | undefined; readonly value?: string | undefined }

/**
 * The `catalog` of an export: settings in their order, and everything else as it was written. Immutable: a change gives a new catalog. Keys are
 * compared without case. Format: docs/formats/catalog.md.
 */
export class Catalog {
  readonly #lines: readonly Line[]

  private constructor(lines: readonly Line[]) {
    this.#lines = lines
  }

  /** CONFIG naming the line that is no setting, or the key that is there twice. */
  static parse(bytes: Uint8Array, name: string): Catalog {
    if (bytes.length > LARGEST) throw new AgentError('CONFIG', `${name} is too large to be a catalog.`, { subject: name })
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
    const seen = new Set<string>()
    const lines: Line[] = []
    for (const [, line = '', ending = ''] of text.matchAll(/([^\r\n]*)(\r\n|\r|\n|$)/g)) {
      if (line === '' && ending === '') continue
      const parsed = parseLine(line, ending)
      const where = `Line ${lines.length + 1} of ${name}`
      if (parsed === undefined) throw new AgentError('CONFIG', `${where} is not of the form key= "value".`, { subject: name, next: NEXT })
      const key = parsed.key?.toLowerCase()
      if (key !== undefined && seen.has(key))
        throw new AgentError('CONFIG', `${where} gives ${JSON.stringify(parsed.key)} a second time.`, { subject: name, next: NEXT })
      if (key !== undefined) seen.add(key)
      lines.push(parsed)
    }
    return new Catalog(lines)
  }

  /** The catalog of a VM as it was exported; USAGE when a fact has a line break. */
  static of(facts: CatalogFacts): Catalog {
    const entries: (readonly [string, string])[] = [
      ['version', 'esx-3.0'],
      ['state', facts.poweredOn ? 'poweredOn' : 'poweredOff'],
      ['display_name', facts.name],
      ['uuid', facts.biosUuid],
      ...facts.disks.flatMap(({ label, file, path }) => [
        [`disk.${label}.filename`, file] as const,
        [`disk.${label}.diskname`, path] as const,
      ]),
      ['config.vmx', facts.vmx],
      ['host', facts.host],
      ['timestamp', facts.time.toISOString()],
      ...(facts.resourcePool === undefined ? [] : [['resourcepool', facts.resourcePool] as const]),
      ...(facts.folder === undefined ? [] : [['folderpath', facts.folder] as const]),
    ]
    return entries.reduce((catalog, [key, value]) => catalog.with(key, value), new Catalog([]))
  }

  get(key: string): string | undefined {
    return this.#find(key)?.value
  }

  /** This catalog with `key` set: in its place and its way of writing when it is there, else as the last line. */
  with(key: string, value: string): Catalog {
    if (/[\r\n]/.test(value) || !/^[^\s=#"][^=\r\n"]*$/.test(key) || key !== key.trim())
      throw new AgentError('USAGE', `The setting ${JSON.stringify(key)} cannot be written to a catalog.`, { subject: key })
    const old = this.#find(key)
    if (old?.value === value) return this
    if (old !== undefined) {
      const before = /^[^=]*=[^\S\r\n]*/.exec(old.text)?.[0] ?? `${key}=`
      const written = quoted(old.text) || value !== plain(value) ? `"${value}"` : value
      return new Catalog(this.#lines.map((line) => (line === old ? { ...line, text: before + written, value } : line)))
    }
    // A last line without its ending gets one.
    const above = this.#lines.map((line, index) =>
      index === this.#lines.length - 1 && line.ending === '' ? { ...line, ending: '\n' } : line,
    )
    return new Catalog([...above, { text: `${key}= "${value}"`, ending: '\n', key, value }])
  }

  /** The alternate catalog of a restore to another host, pool or datastores. */
  rewritten(rewrite: CatalogRewrite): Catalog {
    const datastores = new Map(Object.entries(rewrite.datastores ?? {}))
    const moved = [...this].flatMap(([key, value]): (readonly [string, string])[] => {
      const [head, name = ''] = /^\[([^\]]*)\]/.exec(value) ?? []
      const target = head === undefined ? undefined : datastores.get(name)
      return head === undefined || target === undefined ? [] : [[key, `[${target}]${value.slice(head.length)}`]]
    })
    if (rewrite.host !== undefined) moved.push(['host', rewrite.host])
    if (rewrite.resourcePool !== undefined) moved.push(['resourcepool', rewrite.resourcePool])
    return moved.reduce<Catalog>((catalog, [key, value]) => catalog.with(key, value), this)
  }

  *[Symbol.iterator](): Generator<readonly [key: string, value: string]> {
    for (const { key, value } of this.#lines) if (key !== undefined && value !== undefined) yield [key, value]
  }

  /** Exactly what was read where nothing was changed. */
  format(): string {
    return this.#lines.map(({ text, ending }) => text + ending).join('')
  }

  #find(key: string): Line | undefined {
    const wanted = key.toLowerCase()
    return this.#lines.find((line) => line.key?.toLowerCase() === wanted)
  }
}

const NEXT = 'Take the catalog of the export as it was written, and change only the values.'

/** Undefined for what is neither a setting nor a comment or blank. */
function parseLine(text: string, ending: string): Line | undefined {
  const content = text.replace(/^\ufeff/, '').trim()
  if (content === '' || content.startsWith('#')) return { text, ending }
  const at = content.indexOf('=')
  const key = content.slice(0, Math.max(0, at)).trimEnd()
  return key === '' ? undefined : { text, ending, key, value: plain(content.slice(at + 1)) }
}

const quoted = (text: string): boolean => /=\s*".*"\s*$/.test(text)

/** A value without the blanks and the one pair of quotation marks around it. */
function plain(value: string): string {
  const trimmed = value.trim()
  return trimmed.length >= 2 && trimmed.startsWith('"') && trimmed.endsWith('"') ? trimmed.slice(1, -1) : trimmed
}
