import { describe, expect, it } from 'vitest'
import { checkLayers } from '../../scripts/check-layers.ts'
import { ASIDE, RANKS } from '../../scripts/ranks.ts'

const FACES = [...Object.keys(RANKS), ...Object.keys(ASIDE)].map((room) => ({ path: `src/${room}/index.ts`, text: '/** The room. */\n' }))

/** What the check says of one planted file in an otherwise clean house. */
const says = (path: string, text: string): string[] =>
  checkLayers([...FACES.filter((face) => face.path !== path), { path, text }]).map(({ path: at, line, what }) => `${at}:${line}: ${what}`)

describe('checkLayers', () => {
  it('accepts a clean house and downward imports through faces', () => {
    expect(
      says('src/flow/backup.ts', "import { a } from '../core/index.ts'\nimport { b } from './area.ts'\nimport fs from 'node:fs'\n"),
    ).toEqual([])
    expect(says('src/cli/lab.ts', "import { startLab } from '../lab/index.ts'\n")).toEqual([])
    expect(says('src/lab/model/vm.ts', "import { Clock } from '../../core/index.ts'\nimport { b } from '../wire/soap.ts'\n")).toEqual([])
    expect(says('src/agent/version.ts', "import facts from '../../package.json' with { type: 'json' }\n")).toEqual([])
  })

  it.each([
    ['a room above', 'src/disk/x.ts', "import { a } from '../flow/index.ts'", /disk \(rank 1\) imports flow above it \(rank 4\)/],
    ['a type of a room above', 'src/disk/x.ts', "import type { A } from '../flow/index.ts'", /above it/],
    ['a sibling', 'src/disk/x.ts', "import { a } from '../vsphere/index.ts'", /sibling vsphere/],
    ['the inside of a lower room', 'src/flow/x.ts', "import { a } from '../disk/raw.ts'", /reaches past src\/disk\/index\.ts/],
    ['the inside of a lower room, re-exported', 'src/flow/x.ts', "export * from '../disk/raw.ts'", /reaches past/],
    ['a sibling, dynamically', 'src/disk/x.ts', "const a = await import('../vsphere/index.ts')", /sibling vsphere/],
    ['a sibling, as a type query', 'src/disk/x.ts', "type A = typeof import('../vsphere/index.ts')", /sibling vsphere/],
    ['a room above, over several lines', 'src/disk/x.ts', "import {\n  a,\n  b,\n} from '../flow/index.ts'", /^src\/disk\/x\.ts:4: /],
    [
      'the lab from the product',
      'src/agent/x.ts',
      "import { a } from '../lab/index.ts'",
      /only src\/cli\/lab\.ts and tests may import lab/,
    ],
    ['the lab from another command', 'src/cli/backup.ts', "import { a } from '../lab/index.ts'", /only src\/cli\/lab\.ts/],
    [
      'the product from the lab',
      'src/lab/wire/x.ts',
      "import { a } from '../../vsphere/index.ts'",
      /lab may import only core, not vsphere/,
    ],
    ['a test', 'src/disk/x.ts', "import { a } from './raw.test.ts'", /imports a test/],
    ['what lies outside src', 'src/disk/x.ts', "import { a } from '../../test/peer.ts'", /leaves src/],
    ['the inside of a room, from a script', 'bench/x.ts', "import { a } from '../src/disk/raw.ts'", /reaches past src\/disk\/index\.ts/],
  ])('refuses to import %s', (_what, path, text, expected) => {
    const found = says(path, `${text}\n`)
    expect(found).toHaveLength(1)
    expect(found[0]).toMatch(expected)
  })

  it('lets tests look inside', () => {
    expect(says('src/disk/x.test.ts', "import { a } from '../lab/wire/soap.ts'\n")).toEqual([])
    expect(says('test/flow/x.test.ts', "import { a } from '../../src/disk/raw.ts'\n")).toEqual([])
  })

  it('does not take comments and strings for imports', () => {
    expect(says('src/disk/x.ts', "// import { a } from '../flow/index.ts'\nconst hint = `import { a } from '../flow/index.ts'`\n")).toEqual(
      [],
    )
  })

  it('refuses a room without a rank, a face, or an opening comment, and files beside the rooms', () => {
    expect(says('src/attic/index.ts', '/** An attic. */')).toEqual(['src/attic:1: the room has no rank in scripts/ranks.ts'])
    expect(checkLayers([{ path: 'src/disk/raw.ts', text: '' }])).toMatchObject([{ what: 'the room disk has no public face' }])
    expect(says('src/disk/index.ts', "export * from './raw.ts'\n")).toEqual([expect.stringMatching(/a room opens with a comment/)])
    expect(says('src/main.ts', '')).toEqual([expect.stringMatching(/lives in a room/)])
  })
})
