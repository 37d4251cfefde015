import fc from 'fast-check'
import { expect, it } from 'vitest'
import { readNameList, readSizedList } from './rest-list.ts'

const NAME = 'ab'.repeat(32)

it('reads names with sizes, leaves foreign ones and unknown keys out', () => {
  const text = ` [{"size":7,"name":"${NAME}","more":[{}]}, {"name":"README","size":1}]\n`
  expect(readSizedList(Buffer.from(text), 'list')).toEqual([{ name: NAME, size: 7 }])
  expect(readNameList(Buffer.from(`["${NAME}","../x"]`), 'list')).toEqual([NAME])
  for (const empty of ['[]', 'null']) {
    expect(readSizedList(Buffer.from(empty), 'list')).toEqual([])
    expect(readNameList(Buffer.from(empty), 'list')).toEqual([])
  }
})

it('refuses what is no whole list', () => {
  const whole = `[{"name":"${NAME}","size":7}]`
  for (let length = 0; length < whole.length; length++) {
    expect(() => readSizedList(Buffer.from(whole.slice(0, length)), 'list')).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
  }
  for (const bad of [
    `["${NAME}"]`,
    `[{"name":"${NAME}"}]`,
    `[{"name":"${NAME}","size":-1}]`,
    `[{"name":"${NAME}","size":1.5}]`,
    '<html>',
    '[] []',
  ]) {
    expect(() => readSizedList(Buffer.from(bad), 'list')).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
  }
})

it('takes any bytes without another error', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 200 }),
        fc.json().map((text) => Buffer.from(text)),
      ),
      (bytes) => {
        for (const read of [readSizedList, readNameList]) {
          try {
            read(Buffer.from(bytes), 'list')
          } catch (error) {
            expect(error).toMatchObject({ code: 'INTEGRITY' })
          }
        }
      },
    ),
    { numRuns: 1000, seed: 6 },
  )
})
