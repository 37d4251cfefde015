import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { datastoresKeys, datastoresOf } from './datastores.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) =>
  readSection(datastoresKeys, datastoresOf, ...rest).datastores

test('the file, the environment and the flags are laid over each other by name', () => {
  const over = { environment: { VCB_DATASTORES: 'two=/b,three=/c' }, flags: { datastore: ['three=/d'] } }
  expect(read('datastores: { one: mounts/one, two: /a }', over)).toEqual({ one: '/etc/vcb/mounts/one', two: '/b', three: '/d' })
})

test('a datastore name may hold an equals sign', () => {
  expect(read('', { flags: { datastore: ['a=b=/mnt/x'] } })).toEqual({ 'a=b': '/mnt/x' })
})

test.each(['nothing', '=/mnt', 'name='])('%s maps nothing: USAGE', (pair) => {
  expect(() => read('', { flags: { datastore: [pair] } })).toThrow(expect.objectContaining({ code: 'USAGE' }))
})
