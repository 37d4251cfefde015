import { describe, expect, it } from 'vitest'
import { encodeCall } from './soap.ts'
import { anyValue, data, encodeField, encodeFields, typed } from './vim-data.ts'
import { readXml } from './xml-reader.ts'

const inNamespaces = (xml: string): string =>
  `<r xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">${xml}</r>`

describe('encodeFields', () => {
  it('keeps the order of declaration, repeats arrays, leaves unset fields out', () => {
    expect(encodeFields({ name: 'x', none: undefined, key: [2000, 2001], empty: [], on: false, big: 2n ** 60n })).toBe(
      '<name>x</name><key>2000</key><key>2001</key><on>false</on><big>1152921504606846976</big>',
    )
  })

  it('writes references, types and typed scalars', () => {
    expect(encodeField('vm', { type: 'VirtualMachine', value: 'vm-1&2' })).toBe('<vm type="VirtualMachine">vm-1&amp;2</vm>')
    expect(encodeField('device', typed('VirtualDisk', { key: -1, backing: data({ fileName: '[ds] "x"' }) }))).toBe(
      '<device xsi:type="VirtualDisk"><key>-1</key><backing><fileName>[ds] "x"</fileName></backing></device>',
    )
    expect(encodeField('value', anyValue('xsd:string', 'TRUE'))).toBe('<value xsi:type="xsd:string">TRUE</value>')
    expect(encodeField('at', new Date('2026-11-22T18:00:00Z'))).toBe('<at>2026-11-22T18:00:00.000Z</at>')
  })

  it('echoes what a server sent, types and all, under another name', () => {
    const device = '<d xsi:type="VirtualDisk"><key xsi:type="xsd:int">2000</key><ds type="Datastore">ds-1</ds><t>a&lt;b</t></d>'
    const node = readXml(inNamespaces(device)).get('d')
    expect(encodeField('device', node)).toBe(device.replace('<d ', '<device ').replace('</d>', '</device>'))
  })

  it('refuses what XML cannot carry and numbers it cannot write exactly', () => {
    for (const text of ['a\u0000b', 'bell \u0007', '\ud800']) expect(() => encodeField('n', text)).toThrow(/cannot be sent/)
    for (const number of [Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) expect(() => encodeField('n', number)).toThrow(/exactly/)
  })

  it('makes one envelope with the operation id', () => {
    const call = readXml(
      encodeCall('Login', { type: 'SessionManager', value: 'sm' }, { userName: 'a<b', password: '&"' }, 'urn:vim25', 'job 1'),
    )
    expect(call.string('Header.operationID')).toBe('job 1')
    expect(call.get('Body')?.children[0]?.children.map(({ name, text }) => [name, text])).toEqual([
      ['_this', 'sm'],
      ['userName', 'a<b'],
      ['password', '&"'],
    ])
  })
})
