import { describe, expect, it } from 'vitest'
import { checkLinks, checkMachinePaths, checkSizes, describeSizes } from '../../scripts/check-tree.ts'

const lines = (count: number): string => 'x\n'.repeat(count)

describe('checkSizes', () => {
  it('stops a file at its budget', () => {
    expect(checkSizes([{ path: 'src/disk/x.ts', text: lines(600) }])).toEqual([])
    expect(checkSizes([{ path: 'src/disk/x.ts', text: lines(601) }])).toMatchObject([{ what: 'has 601 lines; at most 600 are allowed' }])
    expect(checkSizes([{ path: 'docs/adr/0001-x.md', text: lines(61) }])).toHaveLength(1)
    expect(checkSizes([{ path: 'docs/architecture.md', text: lines(201) }])).toHaveLength(1)
    expect(checkSizes([{ path: 'README.md', text: lines(900) }])).toEqual([])
  })

  it('describes the sources without their tests', () => {
    const files = [1, 2, 9].map((count) => ({ path: `src/disk/${count}.ts`, text: lines(count) }))
    expect(describeSizes([...files, { path: 'src/disk/9.test.ts', text: lines(500) }])).toBe(
      '3 files, median 2 lines, p90 9, longest 9 (src/disk/9.ts)',
    )
  })
})

describe('checkLinks', () => {
  const tree = (text: string) => [
    { path: 'docs/a.md', text },
    { path: 'docs/formats/b.md', text: '# B and *c*\n\n## Twice\n\n## Twice\n' },
    { path: 'src/core/index.ts', text: '' },
  ]

  it.each([
    '[b](formats/b.md)',
    '[b](formats/b.md#b-and-c)',
    '[b](formats/b.md#twice-1)',
    '[src](../src/core/)',
    '[top](..)',
    '[web](https://example.com/x)',
    '[mail](mailto:a@example.com)',
    '`[not](a-link.md)`',
    '```\n[not](a-link.md)\n```',
  ])('accepts %j', (text) => {
    expect(checkLinks(tree(text))).toEqual([])
  })

  it.each(['[b](b.md)', '[b](formats/b.md#nowhere)', '[here](#nowhere)', '![picture](formats/x.png)', '[src](../src/disk/)'])(
    'refuses %j',
    (text) => {
      expect(checkLinks(tree(`first\n${text}\n`))).toMatchObject([{ path: 'docs/a.md', line: 2 }])
    },
  )
})

describe('checkMachinePaths', () => {
  it.each(['cd /home/someone/project', 'see /Users/Someone/x', 'C:\\Users\\me', 'in /srv/build/tree/src'])('refuses %j', (text) => {
    expect(checkMachinePaths([{ path: 'docs/a.md', text }], '/srv/build/tree')).toHaveLength(1)
  })

  it.each(['/var/lib/vcb-proxy', '/usr/bin/python3', '`/sdk`', 'src/work/main.ts', 'https://host/home/x/y'])('accepts %j', (text) => {
    expect(checkMachinePaths([{ path: 'docs/a.md', text }], '/srv/build/tree')).toEqual([])
  })
})
