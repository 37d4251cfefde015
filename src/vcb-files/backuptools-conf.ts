import { AgentError } from '../core/index.ts'

/** Three lines; more than this is not such a file. Bytes. */
const LARGEST = 64 * 1024

/** The settings of a `backuptools.conf` by their keys in upper case. CONFIG naming the line that is none. Format: docs/formats/backuptools-conf.md. */
export function parseBackuptoolsConf(bytes: Uint8Array, name: string): ReadonlyMap<string, string> {
  if (bytes.length > LARGEST) throw new AgentError('CONFIG', `${name} is too large to be a backuptools.conf.`, { subject: name })
  const settings = new Map<string, string>()
  for (const [index, raw] of new TextDecoder('utf-8').decode(bytes).split(/\r?\n/).entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const at = line.indexOf('=')
    const key = line.slice(0, Math.max(0, at)).trimEnd()
    if (!/^[A-Za-z_][\w.-]*$/.test(key))
      throw new AgentError('CONFIG', `Line ${index + 1} of ${name} is not of the form KEY=value.`, { subject: name })
    settings.set(key.toUpperCase(), unquoted(line.slice(at + 1).trimStart()))
  }
  return settings
}

/** The same settings as text. USAGE for a key or a value that the format cannot hold. */
export function formatBackuptoolsConf(settings: Iterable<readonly [key: string, value: string]>): string {
  let text = ''
  for (const [key, value] of settings) {
    if (!/^[A-Za-z_][\w.-]*$/.test(key) || /[\r\n]/.test(value))
      throw new AgentError('USAGE', `The setting ${JSON.stringify(key)} cannot be written to a backuptools.conf.`, { subject: key })
    text += `${key}=${value === unquoted(value) && value === value.trim() ? value : `"${value}"`}\n`
  }
  return text
}

const unquoted = (value: string): string =>
  value.length >= 2 && (value.startsWith('"') || value.startsWith("'")) && value.at(-1) === value[0] ? value.slice(1, -1) : value
