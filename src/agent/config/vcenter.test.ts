import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { vcenterKeys, vcenterOf } from './vcenter.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(vcenterKeys, vcenterOf, ...rest).vcenter

test('flags come before the environment, the environment before the file', () => {
  const text = 'vcenter: { url: https://file, user: file, thumbprint: "11", caFile: ca.pem }'
  const over = { flags: { vcenter: 'https://flag' }, environment: { VCB_USER: 'environment', VCB_VCENTER: 'https://environment' } }
  expect(read(text, over)).toMatchObject({ url: 'https://flag', user: 'environment', thumbprint: '11', caFile: '/etc/vcb/ca.pem' })
})

test('the password is never in it, only where it comes from', () => {
  expect(read('vcenter: { passwordFile: pw }').password).toEqual({ file: '/etc/vcb/pw' })
  expect(read('vcenter: { passwordEnv: SECRET }', { environment: { SECRET: 'x' } }).password).toEqual({ env: 'SECRET', value: 'x' })
  expect(read('vcenter: { passwordFile: pw }', { flags: { passwordFile: '-' } }).password).toEqual({ file: '-' })
  expect(() => read('vcenter: { password: secret }')).toThrow(/password/)
})
