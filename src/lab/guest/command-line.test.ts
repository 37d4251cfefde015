import { expect, it } from 'vitest'
import { parseCommandLine } from './command-line.ts'

it.each([
  ['linux', 'freeze > /tmp/o 2> /tmp/e', ['freeze'], '/tmp/o', '/tmp/e'],
  ['linux', `'a b'"c d" e\\ f >'/tmp/o x' 2>/tmp/e`, ['a bc d', 'e f'], '/tmp/o x', '/tmp/e'],
  ['linux', `'it'\\''s'`, ["it's"], undefined, undefined],
  ['windows', `"C:\\a b\\x.bat" freeze > "C:\\o" 2> "C:\\e"`, ['C:\\a b\\x.bat', 'freeze'], 'C:\\o', 'C:\\e'],
  ['windows', `it's C:\\x`, ["it's", 'C:\\x'], undefined, undefined],
  ['linux', '', [], undefined, undefined],
] as const)('%s %s', (family, line, words, stdout, stderr) => {
  expect(parseCommandLine(line, family)).toEqual({ words, stdout, stderr })
})
