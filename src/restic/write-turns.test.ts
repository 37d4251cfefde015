import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { turnsMemory, WriteTurns } from './write-turns.ts'

test('one at a time has the turn of a file; those of others are others’', () => {
  const memory = turnsMemory()
  const [mine, others] = [new WriteTurns(memory), new WriteTurns(memory)]
  mine.take(20)
  expect(others.tryTake(20)).toBe(false)
  expect(others.tryTake(21)).toBe(true)
  mine.give(20)
  expect(others.tryTake(20)).toBe(true)
  expect(mine.tryTake(20)).toBe(false)
})

const CHANGES = 20_000

/** Changes a number in steps that are right only where nobody else changes it meanwhile. */
const program = `
  const { workerData } = require('node:worker_threads')
  void import(workerData.script).then(({ WriteTurns }) => {
    const turns = new WriteTurns(workerData.turns)
    const number = new Float64Array(workerData.number)
    for (let change = 0; change < ${CHANGES}; change++) {
      if (change % 2 === 0 || !turns.tryTake(5)) turns.take(5)
      number[0] = number[0] + 1
      turns.give(5)
    }
  })`

test('threads that sleep for their turn are woken, and none has it twice', async () => {
  const number = new SharedArrayBuffer(8)
  const workerData = { turns: turnsMemory(), number, script: new URL('write-turns.ts', import.meta.url).href }
  const threads = Array.from({ length: 3 }, () => new Worker(program, { eval: true, workerData }))
  await Promise.all(threads.map((thread) => once(thread, 'exit')))
  expect(new Float64Array(number)[0]).toBe(threads.length * CHANGES)
})
