import { hostname } from 'node:os'
import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { sitesKeys, sitesOf } from './sites.ts'

const read = (text?: string) => readSection(sitesKeys, sitesOf, text)

test('a proxy is named as its machine and serves every site, when nothing is said', () => {
  expect(read()).toEqual({ proxy: { name: hostname(), sites: undefined }, sites: [] })
})

test('sites are hosts and datastores by name, in the order of the file', () => {
  expect(
    read('proxy: { name: fra-1, sites: fra }\nsites:\n  fra: { hosts: "esx-fra-*", datastores: [f1, f2] }\n  muc: { hosts: [m1] }'),
  ).toEqual({
    proxy: { name: 'fra-1', sites: ['fra'] },
    sites: [
      { name: 'fra', hosts: ['esx-fra-*'], datastores: ['f1', 'f2'] },
      { name: 'muc', hosts: ['m1'], datastores: [] },
    ],
  })
  expect(() => read('proxy: { name: "a b" }')).toThrow(/a name is letters/)
})
