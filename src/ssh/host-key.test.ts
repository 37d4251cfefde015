import { execFileSync } from 'node:child_process'
import { createHmac, generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { checkHostKey, fingerprintOf, type HostKeyPin, keyTypeOf, knownKeys, parseFingerprint, pinnedTypes } from './host-key.ts'

/** An ed25519 key in the form it has on the wire. */
function wireKey(): Buffer {
  const raw = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'der' }).subarray(-32)
  const field = (bytes: Uint8Array): Buffer => Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes])
  return Buffer.concat([field(Buffer.from('ssh-ed25519')), field(raw)])
}
const [key, other] = [wireKey(), wireKey()]
const HOST = { name: 'esx1', address: 'Esx1.lab', port: 22 }
const lineOf = (hosts: string, of: Buffer): string => `${hosts} ssh-ed25519 ${of.toString('base64')} comment\n`
const check =
  (pin: HostKeyPin, shown = key, host = HOST) =>
  () =>
    checkHostKey(host, shown, pin)
const known = (text: string): HostKeyPin => ({ knownHosts: { path: '/kh', text } })

describe('a host key', () => {
  it('is accepted only as pinned, and a changed one is shown beside the pinned one', () => {
    expect(keyTypeOf(key)).toBe('ssh-ed25519')
    expect(check({ fingerprints: [fingerprintOf(other), fingerprintOf(key)] })).not.toThrow()
    expect(check({ fingerprints: [] })).toThrow(`is not pinned; it shows ${fingerprintOf(key)} (ssh-ed25519).`)
    expect(check({ fingerprints: [fingerprintOf(other)] })).toThrow(
      `is ${fingerprintOf(key)} (ssh-ed25519), pinned is ${fingerprintOf(other)}.`,
    )
  })

  it('is found in a known_hosts file by name, port, pattern and hash', () => {
    const hashed = `|1|c2FsdHNhbHRzYWx0c2FsdHNhbHQ=|${createHmac('sha1', Buffer.from('c2FsdHNhbHRzYWx0c2FsdHNhbHQ=', 'base64')).update('esx1.lab').digest('base64')}`
    for (const hosts of ['esx1.lab', 'a,ESX1.lab', '*.lab', 'esx?.lab', hashed]) expect(check(known(lineOf(hosts, key)))).not.toThrow()
    for (const hosts of ['esx2.lab', '*.lab,!esx1.lab', '[esx1.lab]:2222', 'esx1', '*.la'])
      expect(check(known(lineOf(hosts, key)))).toThrow(/is not known: \/kh has none for Esx1.lab/)
    expect(check(known(lineOf('[esx1.lab]:2222', key)), key, { ...HOST, port: 2222 })).not.toThrow()
    expect(check(known(`# ${lineOf('esx1.lab', key)}\n\nnonsense\n`))).toThrow(/is not known/)
  })

  it('is refused when it changed or was revoked', () => {
    expect(check(known(lineOf('esx1.lab', other)))).toThrow(`is ${fingerprintOf(key)} (ssh-ed25519), /kh says ${fingerprintOf(other)}.`)
    expect(check(known(`${lineOf('esx1.lab', key)}@revoked ${lineOf('*', key)}`))).toThrow(/revoked/)
    expect(check(known(`@cert-authority ${lineOf('*', key)}`))).toThrow(/is not known/)
  })

  it('is asked for in the types that are known', () => {
    expect(pinnedTypes(known(lineOf('esx1.lab', key)), HOST)).toEqual(['ssh-ed25519'])
    expect(pinnedTypes(known(''), HOST)).toBeUndefined()
  })

  it('has a fingerprint that people write in several ways', () => {
    const print = fingerprintOf(key)
    for (const text of [print, print.slice(7), `${print}=`, ` ${print}\n`]) expect(parseFingerprint(text)).toBe(print)
    expect(parseFingerprint('MD5:aa:bb')).toBeUndefined()
  })

  it('has the fingerprint that ssh-keygen prints', (context) => {
    try {
      const line = execFileSync('ssh-keygen', ['-l', '-f', '-'], { input: lineOf('esx1.lab', key), encoding: 'utf8' })
      expect(line).toContain(fingerprintOf(key))
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
      context.skip('ssh-keygen is not on this machine')
    }
    expect(knownKeys(lineOf('a', key), 'a', 22)).toHaveLength(1)
  })
})
