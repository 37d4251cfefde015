import { describe, expect, it } from 'vitest'
import { codeOf, lineAt } from '../../scripts/source-text.ts'

describe('codeOf', () => {
  it.each([
    ['a // b\nc', 'a     \nc'],
    ['a /* b\nc */ d', 'a     \n     d'],
    ["x('// no comment')", "x('             ')"],
    ["'it\\'s' + y", "'     ' + y"],
    ['`a ${f("b")} c` + d', '`  ${f(" ")}  ` + d'],
    ['`${{ a: `${1}` }.a}` // z', '`${{ a: `${1}` }.a}`     '],
    ['x = /[/"]/g.test(y) // "', 'x = /    /g.test(y)     '],
    ['a / b / c // d', 'a / b / c     '],
    ['/* open', '       '],
    ["'open", "'    "],
  ])('blanks comments and literals of %j', (text, expected) => {
    expect(codeOf(text, 'blank')).toBe(expected)
  })

  it('keeps strings when asked, still without comments', () => {
    expect(codeOf("import a from './b.ts' // './c.ts'", 'keep')).toBe("import a from './b.ts'            ")
  })

  it('keeps every offset and line where it was', () => {
    const text = 'const a = `x\n${b}\n`\n/* c\n */ Date.now()'
    const code = codeOf(text, 'blank')
    expect(code).toHaveLength(text.length)
    expect(lineAt(code, code.indexOf('Date'))).toBe(5)
  })
})
