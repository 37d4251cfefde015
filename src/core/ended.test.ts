import { expect, it } from 'vitest'
import { allEnded } from './ended.ts'

it('gives back the results in order, and the first failure only when all have ended', async () => {
  expect(await allEnded([Promise.resolve(1), Promise.resolve(2)])).toEqual([1, 2])
  let ended = false
  const { promise: late, resolve } = Promise.withResolvers<void>()
  const works = allEnded([late.then(() => (ended = true)), Promise.reject(new Error('first')), Promise.reject(new Error('second'))])
  const failed = works.catch((error: unknown) => ({ error, ended }))
  resolve()
  expect(await failed).toMatchObject({ error: { message: 'first' }, ended: true })
})
