import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { type FilledPack, PackDigests } from './pack-digests.ts'

function recorded() {
  const runs: (readonly FilledPack[])[] = []
  const digests = new PackDigests((packs) => {
    runs.push(packs)
    return Promise.resolve(packs.map(({ buffer, length }) => Uint8Array.of(buffer, length)))
  })
  return { runs, digests }
}

test('two packs are digested together, each gets its own', async () => {
  const { runs, digests } = recorded()
  const first = digests.of({ buffer: 0, length: 10 })
  await setImmediate()
  expect(runs).toEqual([])
  const second = digests.of({ buffer: 2, length: 20 })
  expect(await Promise.all([first, second])).toEqual([Uint8Array.of(0, 10), Uint8Array.of(2, 20)])
  expect(runs).toEqual([
    [
      { buffer: 0, length: 10 },
      { buffer: 2, length: 20 },
    ],
  ])
})

test('one goes alone when told to, and the next one waits again', async () => {
  const { runs, digests } = recorded()
  digests.go()
  const first = digests.of({ buffer: 1, length: 10 })
  digests.go()
  expect(await first).toEqual(Uint8Array.of(1, 10))
  digests.go()
  void digests.of({ buffer: 0, length: 1 })
  await setImmediate()
  expect(runs).toEqual([[{ buffer: 1, length: 10 }]])
})

test('a failure is that of both', async () => {
  const digests = new PackDigests(() => Promise.reject(new Error('the thread died')))
  const both = [digests.of({ buffer: 0, length: 1 }), digests.of({ buffer: 1, length: 1 })]
  for (const each of both) await expect(each).rejects.toThrow('the thread died')
})

test('a digest that is not there is an error, not a name', async () => {
  const digests = new PackDigests(() => Promise.resolve([]))
  const pack = digests.of({ buffer: 0, length: 1 })
  digests.go()
  await expect(pack).rejects.toMatchObject({ code: 'INTERNAL' })
})
