import { execFileSync } from 'node:child_process'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { A_NIGHT, ANY, HOSTILE, runOf, vmNamed } from '../../test/notices-world.ts'
import { requirePeer } from '../../test/peer.ts'
import { isOverdue } from './coverage.ts'
import { createReport, needsAttention, type ReportRequest } from './report.ts'
import { reportHtml } from './report-html.ts'
import { reportText } from './report-text.ts'

const report = (over: Partial<ReportRequest> = {}) =>
  createReport({
    title: 'Backup report',
    proxy: 'proxy01',
    since: new Date('2026-11-25T06:00:00.000Z'),
    until: new Date('2026-11-26T06:00:00.000Z'),
    timeZone: 'Europe/Berlin',
    ...A_NIGHT,
    ...over,
  })

describe('a report', () => {
  test('of a night tells what is not protected before everything else', async () => {
    await expect(reportText(report())).toMatchFileSnapshot('../../test/golden/reports/night.txt')
    await expect(reportHtml(report())).toMatchFileSnapshot('../../test/golden/reports/night.html')
  })

  test('of a night without trouble says so', async () => {
    const [covered] = A_NIGHT.coverage.covered
    const coverage = { at: A_NIGHT.coverage.at, unselected: [], covered: covered === undefined ? [] : [covered], problems: [], unknown: [] }
    const quiet = report({ records: [runOf(vmNamed('db01'))], coverage })
    expect(needsAttention(quiet)).toBe(false)
    await expect(reportText(quiet)).toMatchFileSnapshot('../../test/golden/reports/quiet.txt')
  })

  test('of runs alone does not say that every VM is covered', () => {
    const text = reportText(report({ records: [runOf(vmNamed('db01'))], coverage: undefined }))
    expect(text).not.toMatch(/every VM/i)
  })

  test('names the newest point of a VM when it tells what is left out', () => {
    const left = { notProtected: [{ what: 'scsi0:1', reason: 'r' }] }
    const later = { endedAt: '2026-11-25T22:00:00.000Z' }
    expect(report({ records: [runOf(vmNamed('a'), left), runOf(vmNamed('a'), later)] }).leftOut).toEqual([])
    expect(report({ records: [runOf(vmNamed('a'), { ...later, ...left }), runOf(vmNamed('a'))] }).leftOut).toHaveLength(1)
  })

  test('a failure after the last good point is not told as mended', () => {
    const failed = runOf(vmNamed('a'), { result: 'failed', endedAt: '2026-11-25T23:00:00.000Z' })
    expect(report({ records: [failed, runOf(vmNamed('a'))] }).failed[0]?.goodSince).toBeUndefined()
  })

  test('lists so many rows that a mail can be read, and says how many are missing', () => {
    const records = Array.from({ length: 700 }, (_, number) => runOf(vmNamed(`vm${number}`, number)))
    const text = reportText(report({ records }))
    expect(text).toContain('Succeeded (700)')
    expect(text).toContain('… and 200 more')
    expect(reportHtml(report({ records })).match(/<tr>/g)?.length).toBeLessThan(520)
  })
})

describe('a point is too old', () => {
  const [covered] = A_NIGHT.coverage.covered
  const at = (ms: number) => new Date(1_800_000_000_000 + ms)
  test.each([
    ['older than allowed', at(-1001), at(-9999), true],
    ['just as old', at(-1000), at(-9999), false],
    ['none, and long enough known', undefined, at(-1001), true],
    ['none, and new', undefined, at(-1), false],
  ])('%s', (_, lastGoodAt, knownSince, expected) => {
    if (covered === undefined) throw new Error('no VM')
    expect(isOverdue({ ...covered, lastGoodAt, knownSince, allowedAgeMs: 1000 }, at(0))).toBe(expected)
  })
})

describe('what strangers wrote', () => {
  test('makes no line of its own and no escape sequence in the text', () => {
    const text = reportText(report({ records: [runOf(vmNamed(HOSTILE))], coverage: undefined }))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
    expect(text.split('\n')).not.toContain('OK')
  })

  test('is text and nothing else to an HTML parser that is not ours', () => {
    const python = requirePeer('python3')
    const names = fc.sample(fc.string({ unit: ANY, maxLength: 40 }), { numRuns: 100, seed: 7 })
    const plain = reportHtml(report({ records: names.map((_, number) => runOf(vmNamed('x', number))), coverage: undefined }))
    const hostile = reportHtml(
      report({ records: [...names.slice(1), HOSTILE].map((name, number) => runOf(vmNamed(name, number))), coverage: undefined }),
    )
    expect(parsed(python, hostile).elements).toEqual(parsed(python, plain).elements)
    expect(parsed(python, hostile).text).toContain(`<img src=x onerror="a()">&'`)
    const night = parsed(python, reportHtml(report()))
    expect(new Set(night.attributes)).toEqual(new Set(['style', 'lang', 'charset']))
    expect(night.elements.filter((name) => /script|img|link|style|iframe|object|a$/.test(name) && name !== 'meta')).toEqual([])
    expect(reportHtml(report())).not.toMatch(/url\(|@import|https?:/)
  })
})

const PARSER = `
import json, sys
from html.parser import HTMLParser
class P(HTMLParser):
    def __init__(self):
        super().__init__(); self.elements = []; self.attributes = []; self.data = []; self.open = []
    def handle_starttag(self, tag, attrs):
        self.elements.append(tag); self.attributes += [a for a, _ in attrs]
        if tag != 'meta': self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag
    def handle_data(self, data): self.data.append(data)
p = P(); p.feed(sys.stdin.buffer.read().decode()); p.close(); assert not p.open, p.open
json.dump({'elements': p.elements, 'attributes': p.attributes, 'text': ''.join(p.data)}, sys.stdout)
`

const parsed = (python: string, html: string): { elements: string[]; attributes: string[]; text: string } =>
  JSON.parse(execFileSync(python, ['-c', PARSER], { input: html, encoding: 'utf8' }))
