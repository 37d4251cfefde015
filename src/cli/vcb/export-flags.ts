import { join, resolve } from 'node:path'
import type { ExportFormat } from '../../disk/index.ts'
import { usage } from './flags.ts'
import type { ToolCall } from './tool.ts'

/** Flags of the commands that export and mount. */
export const EXPORT_FLAGS = { a: 'value', r: 'value', t: 'value', m: 'value', M: 'bit', F: 'bit', Q: 'switch' } as const

export const EXPORT_HELP = `
  -m MODE         san, nbd, nbdssl or hotadd alone; without it, and for cos, the transports of the configuration in their order
  -M 1            one file a disk instead of pieces of 2 GiB
  -F 1            flat: as large as the disk (with holes where the file system has them); without it sparse pieces, with -M 1 alone one streamOptimized file
  -Q              quiet
`

/** The directory that `-r` names; one without any slash lies below BACKUPROOT of config.js. */
export function targetDirectory({ tool, flags, settings }: ToolCall, given: string | undefined, rest = flags.rest): string {
  if (given === undefined || given === '') throw usage(tool.name, `${tool.name} needs a directory (-r).`)
  const lies = settings.backupRoot !== undefined && !given.includes('/') ? join(settings.backupRoot, given) : given
  if (rest.length > 0) throw usage(tool.name, `${tool.name} does not understand ${JSON.stringify(rest[0])}.`)
  return resolve(lies)
}

/** What `-t` wants; the whole VM when it says nothing. */
export function mountType({ tool, flags }: ToolCall): 'fullvm' | 'file' {
  const type = (flags.values.get('t') ?? 'fullvm').toLowerCase()
  if (type === 'fullvm' || type === 'file') return type
  throw usage(tool.name, `${JSON.stringify(type)} is no type of ${tool.name}: fullvm and file are.`)
}

/** How `-M` and `-F` want the disks written. */
export function exportFormat({ tool, flags }: ToolCall): ExportFormat {
  const [monolithic, flat] = (['M', 'F'] as const).map((name) => {
    const value = flags.values.get(name) ?? '0'
    if (value === '0' || value === '1') return value === '1'
    throw usage(tool.name, `The value of -${name} is 0 or 1, not ${JSON.stringify(value)}.`)
  })
  return flat === true ? 'flat' : monolithic === true ? 'streamOptimized' : 'split-sparse'
}

/** The transport that `-m` wants; undefined for those of the configuration. */
export function transportOf({ tool, flags }: ToolCall): string | undefined {
  const mode = flags.values.get('m')?.toLowerCase()
  // The service console that cos meant is gone, and so is every reason to prefer it.
  if (mode === undefined || mode === 'cos') return undefined
  if (['san', 'nbd', 'nbdssl', 'hotadd'].includes(mode)) return mode
  throw usage(tool.name, `${JSON.stringify(mode)} is no mode of ${tool.name}.`)
}
