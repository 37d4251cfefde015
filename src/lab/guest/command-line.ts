/** A command as the guest's shell takes it apart: words, and where its output goes. */
export type CommandLine = { readonly words: readonly string[]; readonly stdout: string | undefined; readonly stderr: string | undefined }

/**
 * Splits a line: blanks, quotes (single ones and the backslash on Linux only), `>`, `1>` and `2>` with the file behind them. No variables, pipes
 * or lists: what else a shell does, this one does not.
 */
export function parseCommandLine(line: string, family: 'linux' | 'windows'): CommandLine {
  const words: string[] = []
  const targets: { stdout?: string; stderr?: string } = {}
  let redirect: 'stdout' | 'stderr' | undefined
  let word: string | undefined
  const end = (): void => {
    if (word === undefined) return
    if (redirect === undefined) words.push(word)
    else targets[redirect] = word
    redirect = undefined
    word = undefined
  }
  for (let at = 0; at < line.length; at++) {
    const letter = line[at] ?? ''
    if (letter === '"' || (letter === "'" && family === 'linux')) {
      const close = line.indexOf(letter, at + 1)
      const last = close < 0 ? line.length : close
      word = (word ?? '') + line.slice(at + 1, last)
      at = last
    } else if (letter === '\\' && family === 'linux') word = (word ?? '') + (line[++at] ?? '')
    else if (/\s/.test(letter)) end()
    else if (letter === '>') {
      const stderr = word === '2'
      if (word === '1' || word === '2') word = undefined
      end()
      redirect = stderr ? 'stderr' : 'stdout'
    } else word = (word ?? '') + letter
  }
  end()
  return { words, stdout: targets.stdout, stderr: targets.stderr }
}
