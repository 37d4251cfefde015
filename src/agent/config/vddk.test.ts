import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { vddkKeys, vddkOf } from './vddk.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(vddkKeys, vddkOf, ...rest).vddk

test('nothing, or a library with what nbdkit is given of the environment', () => {
  expect(read()).toBeUndefined()
  const environment = { PATH: '/bin', VCB_PASSWORD: 'secret', HOME: undefined }
  expect(read('vddk: { libdir: lib, nbdkit: nbdkit, modes: "san:nbdssl" }', { environment })).toEqual({
    libdir: '/etc/vcb/lib',
    nbdkit: 'nbdkit',
    modes: 'san:nbdssl',
    environment: { PATH: '/bin' },
  })
  expect(read('vddk: { libdir: /lib, nbdkit: ./nbdkit }')?.nbdkit).toBe('/etc/vcb/nbdkit')
  expect(() => read('vddk: { libdir: lib, modes: "San" }')).toThrow(/is no list like san:hotadd:nbdssl/)
})
