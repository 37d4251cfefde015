import { printable } from '../core/index.ts'
import type { Report } from './report.ts'
import { periodOf, type Section, sectionsOf, summaryOf } from './report-sections.ts'

/* Mail programs know tables and inline styles, and little else. Nothing here is fetched from anywhere: no image, font, script or link. */
const PAGE = 'margin:0;padding:16px;font:14px/1.4 Arial,Helvetica,sans-serif;color:#1a1a1a;background:#ffffff'
const TABLE = 'border-collapse:collapse;margin:0 0 16px 0;font-size:13px'
const CELL = 'border:1px solid #c8c8c8;padding:4px 8px;text-align:left;vertical-align:top'
const HEAD = `${CELL};background:#eeeeee`
const ALARM = 'color:#a40000'

/** The same report for mail programs and browsers: one page that needs nothing beside itself. Whatever strangers wrote is shown and never obeyed. */
export function reportHtml(report: Report): string {
  const sections = sectionsOf(report)
  const alarming = sections.filter((section) => section.alarming)
  const rest = sections.filter((section) => !section.alarming)
  const all = report.covered !== undefined && alarming.length === 0
  return [
    '<!DOCTYPE html>',
    `<html lang="en"><head><meta charset="utf-8"><title>${escapeHtml(report.title)}</title></head>`,
    `<body style="${PAGE}">`,
    `<h1 style="font-size:20px;margin:0 0 8px 0">${escapeHtml(report.title)}</h1>`,
    `<p style="margin:0 0 4px 0">Proxy ${escapeHtml(report.proxy)}, ${escapeHtml(periodOf(report))}</p>`,
    `<p style="margin:0 0 16px 0"><strong>${escapeHtml(summaryOf(report))}</strong></p>`,
    ...(alarming.length === 0 ? [] : [`<h2 style="font-size:17px;${ALARM}">Not protected</h2>`, ...alarming.map(sectionHtml)]),
    ...(all ? [`<p>Every VM is in a job, and the last good point of each is young enough (${report.covered ?? 0} VMs).</p>`] : []),
    ...rest.map(sectionHtml),
    '</body></html>',
    '',
  ].join('\n')
}

function sectionHtml({ title, alarming, head, rows, more }: Section): string {
  const row = (cells: readonly string[], tag: 'td' | 'th', style: string): string =>
    `<tr>${cells.map((cell) => `<${tag} style="${style}">${escapeHtml(cell)}</${tag}>`).join('')}</tr>`
  const left = more === 0 ? [] : [`<p>… and ${more} more; &quot;vcb report --json&quot; tells all of them.</p>`]
  return [
    `<h3 style="font-size:15px;margin:0 0 4px 0${alarming ? `;${ALARM}` : ''}">${escapeHtml(title)}</h3>`,
    `<table style="${TABLE}">`,
    row(head, 'th', HEAD),
    ...rows.map((cells) => row(cells, 'td', CELL)),
    '</table>',
    ...left,
  ].join('\n')
}

const ESCAPED: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/** Text for an element or a quoted attribute, without control characters. */
export const escapeHtml = (text: string): string => printable(text).replaceAll(/[&<>"']/gu, (character) => ESCAPED[character] ?? '')
