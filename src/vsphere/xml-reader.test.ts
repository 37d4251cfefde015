import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isAgentError } from '../core/index.ts'
import { encodeField } from './vim-data.ts'
import { readXml, XmlReader } from './xml-reader.ts'

const golden = (name: string): Buffer => readFileSync(join(import.meta.dirname, '..', '..', 'test', 'golden', 'soap', name))

describe('XmlReader', () => {
  it('resolves the prefixes of xsi:type, keeps reference types apart, decodes entities', () => {
    const node = readXml(
      '<r xmlns="urn:vim25" xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:s="http://www.w3.org/2001/XMLSchema" xmlns:v="urn:vim25">' +
        '<a i:type="s:long">9007199254740991</a><b i:type="v:VirtualDisk"><key>1</key></b><c type="Folder" i:type="ManagedObjectReference">g&#45;1</c>' +
        '<d><![CDATA[a<b]]> &amp; &#x263a;</d><e/>\n  <e>2</e></r>',
    )
    expect(node.get('a')?.type).toBe('xsd:long')
    expect(node.number('a')).toBe(Number.MAX_SAFE_INTEGER)
    expect(node.get('b')?.type).toBe('VirtualDisk')
    expect(node.number('b.key')).toBe(1)
    expect(node.ref('c')).toEqual({ type: 'Folder', value: 'g-1' })
    expect(node.string('d')).toBe('a<b & ☺')
    expect(node.all('e').map(({ text }) => text)).toEqual(['', '2'])
    expect(node.ref('b')).toBeUndefined()
    expect(node.get('b.none.key')).toBeUndefined()
  })

  it('refuses numbers it cannot hold exactly, and other values of the wrong shape', () => {
    const node = readXml('<r><big>9007199254740993</big><word>many</word><empty/><yes>1</yes><no>false</no></r>')
    for (const name of ['big', 'word', 'empty']) expect(() => node.number(name)).toThrow(/not a usable number/)
    expect([node.boolean('yes'), node.boolean('no'), node.boolean('absent')]).toEqual([true, false, undefined])
    expect(() => node.boolean('word')).toThrow(/not true or false/)
  })

  it('gives the same tree whatever the chunks', () => {
    const bytes = Buffer.from('<?xml version="1.0"?><r a="ü"><name>Büro €</name><v t="x">1</v></r>')
    const whole = readXml(bytes)
    for (let size = 1; size < bytes.length; size++) {
      const reader = new XmlReader(1000)
      for (let at = 0; at < bytes.length; at += size) reader.write(bytes.subarray(at, at + size))
      expect(reader.end()).toEqual(whole)
    }
  })

  it('refuses every truncation of a real answer', () => {
    const bytes = golden('invalid-login.xml')
    const text = bytes.toString().trimEnd()
    expect(readXml(text).name).toBe('Envelope')
    for (let length = 0; length < text.length; length++) expect(() => readXml(text.slice(0, length))).toThrow(/cannot be read/)
  })

  it.each([
    ['a DOCTYPE', '<!DOCTYPE r [<!ENTITY x "y">]><r>&x;</r>', /DOCTYPE/],
    ['an unknown entity', '<r>&nbsp;</r>', /entity/],
    ['a wrong end tag', '<r><a></b></r>', /cannot be read/],
    ['two roots', '<r/><r/>', /cannot be read/],
    ['an unbound prefix', '<x:r/>', /cannot be read/],
    ['nesting without end', '<a>'.repeat(300), /nested deeper than 200/],
    ['a plain text', 'Service Unavailable', /cannot be read/],
  ])('refuses %s', (_what, text, message) => {
    expect(() => readXml(text)).toThrow(message)
  })

  it('refuses bytes that are not UTF-8, and more bytes than allowed', () => {
    expect(() => readXml(Uint8Array.from([0x3c, 0x72, 0x3e, 0xff, 0xfe]))).toThrow(/cannot be read/)
    expect(() => readXml(`<r>${'x'.repeat(100)}</r>`, 50)).toThrow(/longer than 50 bytes/)
  })

  it('reads back every text that can be sent', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
        let sent: string
        try {
          sent = encodeField('v', text)
        } catch (error) {
          expect(isAgentError(error, 'USAGE')).toBe(true)
          return
        }
        expect(readXml(sent).text).toBe(text)
      }),
      { seed: 7, numRuns: 2000 },
    )
  })

  it('answers damaged bytes with INTEGRITY or a tree, never with anything else', () => {
    const bytes = golden('service-content.xml')
    const damage = fc.record({ at: fc.nat(bytes.length - 1), value: fc.nat(255), cut: fc.boolean() })
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 6 }), (damages) => {
        let hurt = Buffer.from(bytes)
        for (const { at, value, cut } of damages) {
          if (at < hurt.length) hurt[at] = value
          if (cut) hurt = Buffer.concat([hurt.subarray(0, at), hurt.subarray(at + 7)])
        }
        try {
          expect(readXml(hurt).name).toBeTypeOf('string')
        } catch (error) {
          expect(isAgentError(error, 'INTEGRITY')).toBe(true)
        }
      }),
      { seed: 11, numRuns: 1500 },
    )
  })
})
