/** The body rows of the first table under a heading, each as its trimmed cells. Throws when there is none. */
export function rowsUnder(page: string, heading: string): string[][] {
  const section = page.split(/^#{1,6} /m).find((part) => part.startsWith(`${heading}\n`))
  const lines = section?.split('\n').filter((line) => line.startsWith('|')) ?? []
  if (lines.length < 3) throw new Error(`There is no table under "${heading}".`)
  return lines.slice(2).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('\\|', '|')),
  )
}
