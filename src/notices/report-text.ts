import { printable } from '../core/index.ts'
import type { Report } from './report.ts'
import { periodOf, type Section, sectionsOf, summaryOf } from './report-sections.ts'

/** A report as plain text, for terminals and mail programs: no line of a stranger's text can pass for one of ours. */
export function reportText(report: Report): string {
  const sections = sectionsOf(report)
  const alarming = sections.filter((section) => section.alarming)
  const rest = sections.filter((section) => !section.alarming)
  const title = printable(report.title)
  return [
    `${title}\n${'='.repeat(title.length)}`,
    `Proxy ${printable(report.proxy)}, ${periodOf(report)}\n${summaryOf(report)}`,
    ...(alarming.length === 0 ? [] : ['NOT PROTECTED', ...alarming.map(sectionText)]),
    ...(report.covered !== undefined && alarming.length === 0
      ? [`Every VM is in a job, and the last good point of each is young enough (${report.covered} VMs).`]
      : []),
    ...rest.map(sectionText),
  ]
    .join('\n\n')
    .concat('\n')
}

function sectionText({ title, head, rows, more }: Section): string {
  const cells = [head.map((word) => word.toUpperCase()), ...rows.map((row) => row.map(printable))]
  const widths = head.map((_, column) => Math.max(...cells.map((row) => widthOf(row[column] ?? ''))))
  const lines = cells.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell + ' '.repeat((widths[column] ?? 0) - widthOf(cell))))
      .join('  ')
      .trimEnd(),
  )
  const left = more === 0 ? [] : [`… and ${more} more; "vcb report --json" tells all of them.`]
  return [title, ...[...lines, ...left].map((line) => `  ${line}`)].join('\n')
}

const widthOf = (text: string): number => Array.from(text).length
