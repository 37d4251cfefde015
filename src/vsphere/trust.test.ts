import { describe, expect, it } from 'vitest'
import { folderUrl } from './datastore-files.ts'
import { formatDatastorePath, parseDatastorePath } from './datastore.ts'
import { decodeName, encodeName } from './inventory-tree.ts'
import { formatPin, parseEndpoint, parsePin, resolveTrust } from './trust.ts'
import { chooseVersion, compareVersions, parseServiceVersions } from './versions.ts'
import { readXml } from './xml-reader.ts'

describe('addresses, pins and paths', () => {
  it('takes thumbprints as people paste them', () => {
    const hex = 'ab'.repeat(20)
    for (const text of [hex, hex.toUpperCase(), formatPin(hex), ` sha1:${formatPin(hex)} `, `SHA256=${'0F'.repeat(32)}`]) {
      expect(parsePin(text)).toMatch(/^([0-9a-f]{40}|[0-9a-f]{64})$/)
    }
    for (const text of ['', 'ab', 'zz'.repeat(20), 'ab'.repeat(24)]) expect(() => parsePin(text)).toThrow(/not a certificate thumbprint/)
  })

  it('says CONFIG for a CA file that is not there', async () => {
    await expect(resolveTrust({ caFile: '/nowhere/ca.pem' })).rejects.toMatchObject({ code: 'CONFIG' })
  })

  it.each([
    ['vc.example.com', 'https://vc.example.com:443', 443, '/sdk'],
    ['vc:8443', 'https://vc:8443', 8443, '/sdk'],
    ['https://vc/', 'https://vc:443', 443, '/sdk'],
    ['https://vc:9443/sdk/', 'https://vc:9443', 9443, '/sdk'],
    ['https://[2001:db8::1]/sdk', 'https://[2001:db8::1]:443', 443, '/sdk'],
  ])('reads %s', (text, origin, port, path) => {
    expect(parseEndpoint(text)).toMatchObject({ origin, port, path })
  })

  it.each(['', 'http://vc', 'https://', 'ftp://vc', 'https://root:secret@vc', 'a b'])('refuses the address %j', (text) => {
    expect(() => parseEndpoint(text)).toThrow(expect.objectContaining({ code: 'CONFIG' }))
  })

  it('never repeats a password in its refusal', () => {
    expect(() => parseEndpoint('https://root:secret@vc')).toThrow(
      expect.not.objectContaining({ message: expect.stringContaining('secret') }),
    )
  })

  it('splits and joins datastore paths', () => {
    expect(parseDatastorePath('[ds 1] a b/c.vmdk')).toEqual({ datastore: 'ds 1', path: 'a b/c.vmdk' })
    expect(parseDatastorePath('[ds]')).toEqual({ datastore: 'ds', path: '' })
    expect(formatDatastorePath({ datastore: 'ds', path: 'x/y' })).toBe('[ds] x/y')
    for (const text of ['', 'a/b', '[] x', '[ds']) expect(() => parseDatastorePath(text)).toThrow(/not a datastore path/)
  })

  it('percent-encodes folder urls and never climbs out', () => {
    expect(folderUrl('[ds #1] a b/c?d%2f/ü.vmdk', '/F/DC 1')).toBe(
      '/folder/a%20b/c%3Fd%252f/%C3%BC.vmdk?dcPath=F%2FDC%201&dsName=ds%20%231',
    )
    for (const path of ['[ds] ../x', '[ds] a/../../x', '[ds] ./x']) expect(() => folderUrl(path, 'DC')).toThrow(/outside its directory/)
  })

  it('writes and reads names as inventory paths have them', () => {
    for (const name of ['a/b', '50%', 'x\\y', 'plain']) expect(decodeName(encodeName(name))).toBe(name)
    expect(encodeName('a/b%2f')).toBe('a%2fb%2f')
  })
})

describe('versions', () => {
  const offered = (xml: string): readonly string[] => parseServiceVersions(readXml(xml))
  it('chooses the newest that both sides know', () => {
    const all = offered(
      '<namespaces><namespace><name>urn:other</name><version>99</version></namespace><namespace><name>urn:vim25</name><version>9.0.0.0</version><priorVersions><version>8.0.3.0</version><version>6.7.1</version><version>odd</version></priorVersions></namespace></namespaces>',
    )
    expect(all).toEqual(['9.0.0.0', '8.0.3.0', '6.7.1'])
    expect(chooseVersion(all, 'h')).toBe('8.0.3.0')
    expect(chooseVersion(['6.5', '6.7.1', '6.7'], 'h')).toBe('6.7.1')
  })

  it('refuses servers that are too old, too new, or no vSphere', () => {
    for (const list of [['5.0', '4.1'], ['9.0.0.0'], []]) expect(() => chooseVersion(list, 'h')).toThrow(/speaks no vSphere API/)
    expect(offered('<html/>')).toEqual([])
  })

  it('compares by number, not by letter', () => {
    expect(['10.0', '6.7.1', '6.7', '7.0.0.0', '6.5'].sort(compareVersions)).toEqual(['6.5', '6.7', '6.7.1', '7.0.0.0', '10.0'])
  })
})
