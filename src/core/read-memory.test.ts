import { expect, it } from 'vitest'
import { fillWithZeros, readMemory, sharedMemory } from './read-memory.ts'

it('is as long as asked for, and begins clear of the page its own memory begins on', () => {
  const memory = readMemory(1000)
  expect(memory.length).toBe(1000)
  expect(memory.byteOffset).toBeGreaterThanOrEqual(64)
  expect(memory.buffer.byteLength - memory.byteOffset).toBe(1000)
  expect(readMemory(0).length).toBe(0)
})

it.each([0, 1, 65_535, 65_536, 65_537, 200_000])('makes %i bytes zero and none beside them', (length) => {
  const memory = sharedMemory(length + 20).fill(7)
  fillWithZeros(memory.subarray(10, 10 + length))
  expect(memory.subarray(0, 10).every((byte) => byte === 7)).toBe(true)
  expect(memory.subarray(10 + length).every((byte) => byte === 7)).toBe(true)
  expect(memory.subarray(10, 10 + length).every((byte) => byte === 0)).toBe(true)
})
