/** Parts of a secret as short as this are words that any answer may hold. */
const SHORT = 6
/** Characters of an answer that an error repeats. */
const MOST = 200

/**
 * What a server said, as one short line for an error; undefined where it said nothing, or repeats something that is secret (many servers name the path they do not have,
 * or the command they do not know) as it stands, in part, or in base64.
 */
export function saidBy(text: string, secrets: readonly string[]): string | undefined {
  const line = text.replaceAll(/\s+/gu, ' ').trim()
  if (line === '' || secrets.some((secret) => formsOf(secret).some((form) => line.includes(form)))) return undefined
  return Array.from(line).slice(0, MOST).join('')
}

function formsOf(secret: string): readonly string[] {
  if (secret === '' || secret === '/') return []
  const plain = decoded(secret)
  const words = `${secret} ${plain}`.split(/[^\p{L}\p{N}]+/u).filter((word) => word.length >= SHORT)
  return [secret, plain, ...words, Buffer.from(plain, 'utf8').toString('base64').replace(/=+$/u, '')]
}

/** Of a URL; what is no percent-encoding stays. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (error) {
    if (error instanceof URIError) return text
    throw error
  }
}
