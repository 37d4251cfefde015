import { execFileSync } from 'node:child_process'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { shellLine, shellWord } from './shell-word.ts'

/** What a real shell makes of a line of ours: the words it hands to a program. */
const heard = (shell: readonly [string, ...string[]], words: readonly string[]): string[] => {
  const [program, ...args] = shell
  const line = shellLine(['printf', '%s\\0', ...words])
  return execFileSync(program, [...args, '-c', line], { encoding: 'utf8', input: '' })
    .split('\0')
    .slice(0, -1)
}
const SH = ['/bin/sh'] as const

/** Everything a shell could take for more than a letter, and some letters. */
const nasty = fc.stringMatching(/^[ a-z'"$`\\!*?[\]{}()<>|&;#~=%^\n\t\r-]{0,24}$/)
const word = fc.oneof(
  nasty,
  fc.string({ unit: 'grapheme', maxLength: 24 }).filter((text) => text.isWellFormed() && !text.includes('\0')),
  fc.constantFrom('-rf', '--', '', '$(id)', '`id`', "it's", '$HOME', '*', '~root', 'a=b', "'\\''", '\n', 'if', '{a,b}'),
)

describe('a word of a remote line', () => {
  it('reaches a program as it was, whatever is in it', () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), (words) => {
        expect(heard(SH, words)).toEqual(words)
      }),
      { numRuns: 150, seed: 24 },
    )
  })

  it('is left alone where nothing in it means anything', () => {
    expect(shellLine(['dd', 'if=/vmfs/volumes/a-b/vm_1/x.vmdk', 'bs=4096'])).toBe("dd 'if=/vmfs/volumes/a-b/vm_1/x.vmdk' 'bs=4096'")
    expect(shellWord('/vmfs/volumes/a-b/vm_1/x.vmdk')).toBe('/vmfs/volumes/a-b/vm_1/x.vmdk')
  })

  it('is refused where no shell can carry it', () => {
    expect(() => shellWord('a\0b')).toThrow(/cannot be written into a command/)
    expect(() => shellWord('\ud800')).toThrow(/cannot be written into a command/)
    expect(() => shellLine(['x', 'y'.repeat(40_000)])).toThrow(/too long/)
  })
})
