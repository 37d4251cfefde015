import { expect, it } from 'vitest'
import { readMemory } from './read-memory.ts'

it('is as long as asked for, and begins clear of the page its own memory begins on', () => {
  const memory = readMemory(1000)
  expect(memory.length).toBe(1000)
  expect(memory.byteOffset).toBeGreaterThanOrEqual(64)
  expect(memory.buffer.byteLength - memory.byteOffset).toBe(1000)
  expect(readMemory(0).length).toBe(0)
})
