import { AgentError } from '../core/index.ts'

/** Longest line given to a host's shell: a session request is one packet, and `sh` takes no single word above 128 KiB. Bytes. */
const LONGEST = 30_000

/**
 * One word of a command line for a POSIX shell, so quoted that the shell hands on exactly `text`, whatever is in it. The only way anything gets
 * into a remote line. A word that begins with `-` stays one: where a name may, the command is given a path that begins with `/`.
 * USAGE for text that no shell can carry (NUL, half a surrogate pair).
 */
export function shellWord(text: string): string {
  if (text.includes('\0') || !text.isWellFormed()) {
    throw new AgentError('USAGE', `${JSON.stringify(text.slice(0, 200))} cannot be written into a command.`, {
      subject: text.slice(0, 200),
    })
  }
  return /^[A-Za-z0-9_./:-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

/** A simple command of these words. USAGE also when the line is longer than a session request takes. */
export function shellLine(words: readonly string[]): string {
  const line = words.map(shellWord).join(' ')
  if (Buffer.byteLength(line) > LONGEST) {
    throw new AgentError('USAGE', `A command of ${Buffer.byteLength(line)} bytes is too long for a host's shell.`, { subject: words[0] })
  }
  return line
}
