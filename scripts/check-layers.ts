import { posix } from 'node:path'
import { ASIDE, RANKS } from './ranks.ts'
import { codeOf, lineAt, type Finding, type SourceFile } from './source-text.ts'

/**
 * Holds `src/` to the rank table, and everything else to the rooms' public faces: `bench/`, `scripts/` and `integrations/` also import
 * another room only through its `index.ts`. Tests may look inside. Type-only, re-exporting and dynamic imports count like any other.
 */
export function checkLayers(files: readonly SourceFile[]): Finding[] {
  const code = files.filter((file) => /\.[cm]?tsx?$/.test(file.path) && !isTest(file.path))
  return [...code.flatMap((file) => importsOf(file).flatMap((found) => judge(file.path, found))), ...checkFaces(files)]
}

export const isTest = (path: string): boolean => path.startsWith('test/') || /\.test\.tsx?$/.test(path)

type Import = { readonly specifier: string; readonly line: number }

const IMPORT = /\b(?:from|import)\s*\(?\s*(['"`])([^'"`\n]+)\1/g

/** Every module a file names: `import … from`, `export … from`, bare `import`, `import()` and `typeof import()`. */
function importsOf(file: SourceFile): Import[] {
  const code = codeOf(file.text, 'keep')
  const blanked = codeOf(file.text, 'blank')
  return [...code.matchAll(IMPORT)]
    .filter((match) => /^(?:from|import)/.test(blanked.slice(match.index)))
    .map((match) => ({ specifier: match[2] ?? '', line: lineAt(code, match.index) }))
}

function judge(path: string, { specifier, line }: Import): Finding[] {
  if (!specifier.startsWith('.')) return []
  const target = posix.join(posix.dirname(path), specifier)
  const says = (what: string): Finding[] => [{ path, line, what: `${what} (${specifier})` }]
  const from = roomOf(path)
  const to = roomOf(target)
  if (from === undefined) {
    return to === undefined || target === `src/${to}/index.ts` ? [] : says(`reaches past src/${to}/index.ts`)
  }
  if (to === undefined) return target === 'package.json' ? [] : says('leaves src/, which must stand alone')
  if (isTest(target)) return says('imports a test')
  if (from === to) return []
  if (target !== `src/${to}/index.ts`) return says(`reaches past src/${to}/index.ts`)
  return judgeRooms(path, from, to).flatMap(says)
}

function judgeRooms(path: string, from: string, to: string): string[] {
  const own = ASIDE[from]
  if (own !== undefined) return own.mayImport.includes(to) ? [] : [`${from} may import only ${own.mayImport.join(', ')}, not ${to}`]
  const other = ASIDE[to]
  if (other !== undefined) return other.importedBy.includes(path) ? [] : [`only ${other.importedBy.join(', ')} and tests may import ${to}`]
  const rank = RANKS[from]
  const target = RANKS[to]
  if (rank === undefined) return [`the room ${from} has no rank in scripts/ranks.ts`]
  if (target === undefined) return [`the room ${to} has no rank in scripts/ranks.ts`]
  if (target === rank) return [`${from} imports its sibling ${to}, both of rank ${rank}`]
  return target < rank ? [] : [`${from} (rank ${rank}) imports ${to} above it (rank ${target})`]
}

/** `src/disk/raw.ts` → `disk`; undefined outside src. */
const roomOf = (path: string): string | undefined => /^src\/([^/]+)\//.exec(path)?.[1]

const TOP_RANK = Math.max(...Object.values(RANKS))

/** Every room has a rank and a face that opens with what the room is; a room of the top rank, which nobody imports, may have its entry instead. */
function checkFaces(files: readonly SourceFile[]): Finding[] {
  const rooms = new Set(files.flatMap((file) => roomOf(file.path) ?? []))
  const findings: Finding[] = []
  for (const room of rooms) {
    const path = `src/${room}/index.ts`
    const entry = RANKS[room] === TOP_RANK ? `src/${room}/main.ts` : path
    const face = files.find((file) => file.path === path) ?? files.find((file) => file.path === entry)
    if (RANKS[room] === undefined && ASIDE[room] === undefined)
      findings.push({ path: `src/${room}`, line: 1, what: 'the room has no rank in scripts/ranks.ts' })
    if (face === undefined) findings.push({ path, line: 1, what: `the room ${room} has no public face` })
    else if (face.path === path && !face.text.startsWith('/**'))
      findings.push({ path: face.path, line: 1, what: 'a room opens with a comment: what it is, and why' })
  }
  for (const { path } of files) {
    if (/^src\/[^/]+$/.test(path)) findings.push({ path, line: 1, what: 'a source file lives in a room, not in src/ itself' })
  }
  return findings
}
