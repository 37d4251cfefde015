import { hash } from 'node:crypto'

const MAX_BYTES = 200

/** True for what `safeFileName` gives: one component that needs no change, `%XX` escapes included. */
export const isSafeFileName = (name: string): boolean =>
  safeFileName(name.replace(/%(?=[0-9A-F]{2})/g, '_')) === name.replace(/%(?=[0-9A-F]{2})/g, '_')

/**
 * A file name component from any foreign text (a VM name, a datastore path's last part).
 * Result: 1..200 bytes of UTF-8, no `/`, `\`, NUL, control or reserved character, never `.` or `..`, no leading dot, no trailing dot or
 * blank. Characters that are not allowed become `%XX` of their UTF-8 bytes, `%` itself too, so different names stay different;
 * names cut for length end in a hash of the whole.
 */
export function safeFileName(text: string): string {
  const encode = (part: string): string =>
    [...Buffer.from(part, 'utf8')].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being removed
  let name = text.toWellFormed().replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069/\\%:*?"<>|]/gu, encode)
  name = name.replace(/^\./, '%2E').replace(/[. ]$/, encode)
  if (name === '') return '%'
  if (Buffer.byteLength(name) <= MAX_BYTES) return name
  let kept = ''
  for (const character of name) {
    if (Buffer.byteLength(kept) + Buffer.byteLength(character) > MAX_BYTES - 18) break
    kept += character
  }
  return `${kept}~${hash('sha256', text).slice(0, 16)}`
}
