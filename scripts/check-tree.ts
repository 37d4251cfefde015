import { posix } from 'node:path'
import { lineAt, type Finding, type SourceFile } from './source-text.ts'

const HARD_STOP = 600
const LIMITS: readonly { readonly paths: RegExp; readonly lines: number }[] = [
  { paths: /^(?:src|test|scripts|bench)\/.*\.tsx?$/, lines: HARD_STOP },
  { paths: /^docs\/adr\/\d.*\.md$/, lines: 60 },
  { paths: /^docs\/architecture\.md$/, lines: 200 },
]

const linesOf = (file: SourceFile): number => file.text.split('\n').length - (file.text.endsWith('\n') ? 1 : 0)

/** No file outgrows its budget. */
export function checkSizes(files: readonly SourceFile[]): Finding[] {
  return files.flatMap((file) => {
    const limit = LIMITS.find((entry) => entry.paths.test(file.path))?.lines
    const lines = linesOf(file)
    return limit === undefined || lines <= limit
      ? []
      : [{ path: file.path, line: lines, what: `has ${lines} lines; at most ${limit} are allowed` }]
  })
}

/** `139 files, median 96 lines, p90 280, longest 540 (src/…)`: a smell detector. */
export function describeSizes(files: readonly SourceFile[]): string {
  const sized = files
    .filter((file) => /^src\/.*(?<!\.test)\.ts$/.test(file.path))
    .map((file) => ({ path: file.path, lines: linesOf(file) }))
    .sort((a, b) => a.lines - b.lines)
  const at = (share: number): number => sized[Math.min(sized.length - 1, Math.floor(sized.length * share))]?.lines ?? 0
  const longest = sized.at(-1)
  return `${sized.length} files, median ${at(0.5)} lines, p90 ${at(0.9)}, longest ${longest?.lines ?? 0} (${longest?.path ?? '-'})`
}

const LINK = /\[[^\]\n]*\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g

/** Every relative link of a document leads to a file or folder that is there, and to a heading that is there. */
export function checkLinks(files: readonly SourceFile[]): Finding[] {
  const paths = new Set(files.flatMap((file) => [file.path, ...folders(file.path)]))
  const headings = new Map(files.filter((file) => file.path.endsWith('.md')).map((file) => [file.path, anchors(file.text)]))
  return files
    .filter((file) => file.path.endsWith('.md'))
    .flatMap((file) => {
      const text = withoutFences(file.text)
      return [...text.matchAll(LINK)].flatMap((match) => {
        const link = match[1] ?? ''
        if (/^[a-z][a-z0-9+.-]*:/i.test(link)) return []
        const [linked = '', anchor] = link.split('#')
        const target =
          linked === '' ? file.path : posix.normalize(posix.join(posix.dirname(file.path), decodeURIComponent(linked))).replace(/\/$/, '')
        const line = lineAt(text, match.index)
        if (target !== '.' && !paths.has(target)) return [{ path: file.path, line, what: `links to ${link}, which is not there` }]
        if (anchor !== undefined && anchor !== '' && headings.get(target)?.has(anchor) === false) {
          return [{ path: file.path, line, what: `links to ${link}, but ${target} has no such heading` }]
        }
        return []
      })
    })
}

const folders = (path: string): string[] => {
  const parts = path.split('/')
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'))
}

const withoutFences = (text: string): string =>
  text.replace(/^(```|~~~)[^]*?^\1/gm, (block) => block.replace(/[^\n]/g, ' ')).replace(/`[^`\n]*`/g, (code) => ' '.repeat(code.length))

/** The anchors that a Markdown reader makes of the headings. */
function anchors(text: string): Set<string> {
  const found = new Set<string>()
  for (const match of text.replace(/^(```|~~~)[^]*?^\1/gm, '').matchAll(/^#{1,6}\s+(.*?)\s*#*$/gm)) {
    const base = (match[1] ?? '')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-')
    let anchor = base
    for (let again = 1; found.has(anchor); again++) anchor = `${base}-${again}`
    found.add(anchor)
  }
  return found
}

const MACHINE_PATHS = /(?<![\w.$}/-])\/(?:home\/[a-z_][\w-]*|Users\/[A-Za-z][\w-]*|root)\/[\w.]|[A-Z]:\\Users\\/g

/** No path of the machine that a file was written on; `top` is where this checkout happens to be. */
export function checkMachinePaths(files: readonly SourceFile[], top: string): Finding[] {
  const own = top.split('/').length > 2 ? top : undefined
  return files
    .filter((file) => !file.path.endsWith('package-lock.json') && !file.path.startsWith('test/checks/'))
    .flatMap((file) => {
      const offsets = [...file.text.matchAll(MACHINE_PATHS)].map((match) => match.index)
      if (own !== undefined && offsets.length === 0 && file.text.includes(`${own}/`)) offsets.push(file.text.indexOf(`${own}/`))
      return offsets.map((offset) => ({
        path: file.path,
        line: lineAt(file.text, offset),
        what: `names a path of one machine: ${file.text.slice(offset, offset + 40).split(/[\s'"`)]/)[0] ?? ''}`,
      }))
    })
}
