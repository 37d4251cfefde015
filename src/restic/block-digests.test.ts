import { hash, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { sharedMemory } from '../core/index.ts'
import { type BlockDigests, digestsOneByOne, digestsSideBySide } from './block-digests.ts'

const sideBySide = digestsSideBySide()
const ways: [string, BlockDigests | undefined][] = [
  ['one by one', digestsOneByOne],
  ['side by side', sideBySide],
]

describe.each(ways)('digests of blocks, %s', (_name, digests) => {
  const found = (blocks: readonly Uint8Array[]): string[] =>
    (digests ?? digestsOneByOne)(blocks).map((digest) => Buffer.from(digest).toString('hex'))
  const expected = (blocks: readonly Uint8Array[]): string[] => blocks.map((block) => hash('sha256', block))

  it.skipIf(digests === undefined)('are those of node:crypto, of any number of blocks of any lengths, in any memory', () => {
    const blocks = fc.array(fc.nat(600), { maxLength: 11 }).map((lengths) => lengths.map((length) => randomBytes(length)))
    fc.assert(
      fc.property(blocks, (each) => {
        expect(found(each)).toEqual(expected(each))
      }),
      { numRuns: 300 },
    )
    const shared = sharedMemory(1_100_001)
    randomBytes(shared.length).copy(shared)
    const parts = [262_144, 262_144, 1, 262_144, 65_537, 200_000, 4096].reduce<Buffer[]>((all, length) => {
      const from = all.reduce((sum, part) => sum + part.length, 0)
      return [...all, shared.subarray(from, from + length)]
    }, [])
    for (let count = 0; count <= parts.length; count++) expect(found(parts.slice(0, count))).toEqual(expected(parts.slice(0, count)))
  })

  it.skipIf(digests === undefined)('stay what they were when the next ones are computed', () => {
    const [first, second] = (digests ?? digestsOneByOne)([Buffer.from('a'), Buffer.from('b')])
    found([Buffer.from('c'), Buffer.from('d')])
    expect([first, second].map((digest) => Buffer.from(digest ?? []).toString('hex'))).toEqual(
      expected([Buffer.from('a'), Buffer.from('b')]),
    )
  })
})

it.runIf(process.arch === 'x64')('side by side is to be had in the Node of this project', () => {
  expect(sideBySide).toBeDefined()
})
