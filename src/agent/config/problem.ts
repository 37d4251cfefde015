/** Something wrong with the file, and where. */
export type ConfigProblem = {
  readonly file: string
  /** Both from 1; undefined for what stands in no file. */
  readonly line: number | undefined
  readonly column: number | undefined
  /** `jobs[0].windows[1]`; empty for the file as a whole. */
  readonly at: string
  readonly message: string
  /** What was probably meant. */
  readonly meant: string | undefined
}

/** `vcb.yaml:7:5: jobs[0].quiese: there is no such key; did you mean "quiesce"?` */
export function formatProblem({ file, line, column, at, message, meant }: ConfigProblem): string {
  const place = line === undefined ? '' : `:${line}:${column}`
  return `${file}${place}: ${at === '' ? '' : `${at}: `}${message}${meant === undefined ? '' : `; did you mean "${meant}"?`}`
}
