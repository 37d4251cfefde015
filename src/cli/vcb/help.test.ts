import { describe, expect, it } from 'vitest'
import { ERROR_CODES } from '../../core/index.ts'
import { parseToolFlags } from './flags.ts'
import { TOOLS } from './run-tool.ts'
import { helpOf } from './tool.ts'

const EXITS = Object.values(ERROR_CODES).map(({ exit }) => exit)

describe.each(TOOLS)('--help of $name', (tool) => {
  const help = helpOf(tool)

  it('names every flag', () => {
    for (const flag of Object.keys(tool.flags)) expect(help).toMatch(new RegExp(`(?:^|[ [(])-${flag}(?![A-Za-z])`, 'm'))
  })

  it('shows command lines that the command understands', () => {
    expect(tool.examples.length).toBeGreaterThan(0)
    for (const line of tool.examples) {
      const words = (/^(?:[A-Z_]+=\S+ )?(.*?)(?: \|.*)?$/.exec(line)?.[1] ?? '').split(' ')
      expect(words[0]).toBe(tool.name)
      expect(() => parseToolFlags(tool.name, tool.flags, words.slice(1))).not.toThrow()
    }
  })

  it('tells exit codes that there are', () => {
    for (const exit of Object.keys(tool.exits)) expect(EXITS).toContain(Number(exit))
  })
})
