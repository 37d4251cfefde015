import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { digestOfSource, type Kind, type NfcWorld, openNfcWorld } from '../flow/nfc-world.ts'
import { describePeer } from '../peer.ts'

const CLIENT = join(import.meta.dirname, '..', '..', 'scripts', 'peers', 'nfc_client.py')
const METHODS = [
  'NfcGetVmFiles',
  'NfcRandomAccessOpenReadonly',
  'NfcRandomAccessOpenDisk',
  'NfcRandomAccessFileOpen',
  'NfcFileManagement',
] as const
const COMPRESSIONS = [0, 1, 2, 3]
const BUFFERS: readonly (readonly [buffer: number, count: number])[] = [
  [0, 0],
  [65_536, 1],
  [1 << 20, 4],
  [2 << 20, 1],
]

type Case = Readonly<Record<string, unknown>>
// oxlint-disable-next-line typescript/no-explicit-any
type Result = any

/** A client of the protocol that shares no line, no language and no author of a TLS library with the lab's server or with src/nfc. */
describePeer('pyvmomi', 'an independent NFC client against the lab', (python) => {
  let world: NfcWorld
  const frozen = new Map<string, { path: string; key: number; sha256: string }>()

  beforeAll(async () => {
    world = await openNfcWorld()
    for (const name of ['sesparse', 'cowd', 'odd']) {
      await world.lab.control.write(name, { percent: 4, unit: 4096, seed: 5 })
      const { snapshot, files } = await world.freeze(name)
      await world.lab.control.write(name, { percent: 2, unit: 512, seed: 6 })
      const [digest] = await world.lab.control.sha256(name, { snapshot })
      frozen.set(name, { path: files[0]?.fileName ?? '', key: files[0]?.key ?? 0, sha256: digest?.sha256 ?? '' })
    }
  })
  afterAll(() => world[Symbol.asyncDispose]())

  const disk = (name: string) => frozen.get(name) ?? { path: '', key: 0, sha256: '' }

  async function run(kind: Kind, cases: readonly Case[], at = world): Promise<Result[]> {
    const { lab } = at
    const endpoint = lab.endpoints[kind]
    const password = (await readFile(lab.passwordFile, 'utf8')).trim()
    const child = spawn(python, ['-W', 'ignore', CLIENT, endpoint.host, String(endpoint.port), lab.user, password])
    let [out, err] = ['', '']
    child.stdout.on('data', (piece: Buffer) => (out += piece.toString()))
    child.stderr.on('data', (piece: Buffer) => (err += piece.toString()))
    child.stdin.end(JSON.stringify(cases))
    const exit = await new Promise((resolve) => child.once('close', resolve))
    expect([exit, err]).toEqual([0, ''])
    expect(await at.isClean()).toBe(true)
    return out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
  }

  const reading = (name: string, more: Case): Case => ({ do: 'read', vm: name, path: disk(name).path, key: disk(name).key, ...more })

  for (const kind of ['vcenter', 'esxi'] as const) {
    const service = kind === 'vcenter' ? 'vpxa-nfc' : 'nfc'

    it(`by tickets of ${kind}: every method, both services, both orders of the handshake`, async () => {
      const cases = METHODS.flatMap((method, index) =>
        [true, false].map((ssl) => {
          const style = ssl === (kind === 'vcenter') ? 'early' : 'late'
          const [buffer, count] = BUFFERS[index % BUFFERS.length] ?? [0, 0]
          return reading('odd', { method, ssl, style, buffer, count, compression: 3, hostForAccess: style === 'early' })
        }),
      )
      const results = await run(kind, cases)
      expect(results).toHaveLength(cases.length)
      for (const [index, result] of results.entries()) {
        const { method, ssl, style } = cases[index] ?? {}
        expect([method, ssl, style, result]).toEqual([
          method,
          ssl,
          style,
          expect.objectContaining({
            service,
            answer: ssl === true ? '200 Connect ha-nfcssl' : '200 Connect ha-nfc',
            version: 11,
            sha256: disk('odd').sha256,
            capacity: 3 * 1024 * 1024 + 512 * 77,
            hidden: 0,
            end: ssl === true ? 'close_notify' : 'the host closed the connection',
          }),
        ])
        expect(result.keys).toMatchObject({ adapterType: 'lsilogic', uuid: expect.stringMatching(/^60 00 C2 9/i), iofilters: '' })
      }
    })

    it(`by tickets of ${kind}: every compression with every buffer, on SE-sparse and COWD chains`, async () => {
      const cases = COMPRESSIONS.flatMap((compression) =>
        BUFFERS.map(([buffer, count], index) =>
          reading(index % 2 === 0 ? 'sesparse' : 'cowd', {
            method: 'NfcGetVmFiles',
            ssl: index < 2,
            style: 'late',
            buffer,
            count,
            compression,
            piece: index === 3 ? 16 << 20 : 1 << 20,
          }),
        ),
      )
      const results = await run(kind, cases)
      for (const [index, result] of results.entries()) {
        const one = cases[index] ?? {}
        expect([one, result.sha256, result.hidden]).toEqual([one, disk(String(one['vm'])).sha256, 0])
        expect(result.largest).toBe(Math.min(Number(one['buffer']) || 65_536, Number(one['piece'])))
        expect(result.allocated).toBeGreaterThan(0)
        expect(result.allocated).toBeLessThan(result.chunks)
        // What is asked for comes, and what does not get smaller comes plain.
        expect(result.codes).toEqual(one['compression'] === 0 ? [0] : expect.arrayContaining([one['compression']]))
      }
    }, 120_000)
  }

  it('refusals keep both sides in step: other files, locked and live ones, requests nobody knows, lines nobody knows', async () => {
    const vms = (await world.lab.control.state()).vms
    const live = vms.find((vm) => vm.name === 'odd')?.disks[0]?.chain[0] ?? ''
    const other = vms.find((vm) => vm.name === 'other')?.disks[0]?.fileName ?? ''
    const base = { vm: 'odd', path: disk('odd').path, key: disk('odd').key, method: 'NfcGetVmFiles', ssl: true, compression: 0 }
    const [early, late, unknown, dialogue] = await run('vcenter', [
      ...['early', 'late'].map((style) => ({
        ...base,
        do: 'refused',
        style,
        tries: [
          [other, 0x1e],
          [live, 0x1e],
          [disk('odd').path, 0x1a],
          [disk('odd').path, 0x1e],
        ],
      })),
      { ...base, do: 'unknown', style: 'late' },
      { ...base, do: 'dialogue', style: 'late' },
    ])
    for (const result of [early, late]) {
      expect(result.tries).toEqual([
        [11, expect.stringContaining('permission check failed')],
        [1, expect.stringContaining('multiwriter mode')],
        [11, expect.stringContaining('permission check failed')],
        'opened',
      ])
    }
    expect(unknown).toMatchObject({ 'file info': 3, 'unaligned map': 3, 'map past the end': 3, 'other handle': 3, 'second session': 3 })
    expect(dialogue).toEqual({
      'SESSIONID x': '530 Please login with USER and PASS',
      'CONNECT_VPXA x': '530 Please login with USER and PASS',
      'USER root': expect.stringMatching(/^331 /),
      'PASS x': '530 Login incorrect',
      'THUMBPRINT_SHA2 AA:BB': '501 Invalid arguments',
      'PROXY nfc': '530 Please login with USER and PASS',
      BANNER: expect.stringMatching(/^220 VMware Authentication Daemon Version 1\.10/),
      again: expect.stringMatching(/^530 /),
      library: 11,
    })
  })

  it('a host of ESXi 7.0.3 is as both who have seen one say: 36 after 51, frame 43 or none', async () => {
    const vm = { name: 'off', power: 'poweredOff', disks: [{ size: '1MiB', content: 'random' }] }
    const datacenter = { name: 'DC', hosts: [{ name: 'esx1' }], datastores: [{ name: 'v5', type: 'VMFS5' }], vms: [vm] }
    await using old = await openNfcWorld({ taskMs: 0, nfc: { version: 9, memory: '48MiB' }, datacenters: [datacenter] })
    const path = '[v5] off/off.vmdk'
    const [digest] = await old.lab.control.sha256('off')
    const base = { do: 'read', vm: 'off', path, key: 2000, method: 'NfcGetVmFiles', ssl: true, compression: 3 }
    const known = await run(
      'esxi',
      [
        { ...base, style: 'late', old: true },
        { ...base, style: 'late' },
        { ...base, do: 'dialogue', style: 'late' },
      ],
      old,
    )
    await old.lab.control.fault({ on: 'nfc:frame', nfc: 'holdParameters' })
    const held = await run(
      'esxi',
      [
        { ...base, style: 'early', old: true },
        { ...base, style: 'early', ssl: false },
      ],
      old,
    )
    for (const result of [known[0], known[1], ...held]) expect(result).toMatchObject({ version: 9, sha256: digest?.sha256 })
    expect(known[2].library).toBe(7)
    // Our own client knows such a host too.
    const { disk } = await old.open('off', path)
    await using _closed = disk
    expect(await digestOfSource(disk)).toBe(digest?.sha256)
  })

  it('what it writes by a ticket for one disk it reads back', async () => {
    const off = (await world.lab.control.state()).vms.find((vm) => vm.name === 'off')?.disks[0]
    const areas = [
      [0, 512],
      [0x10000, 66_048],
      [(8 << 20) - 512, 512],
    ]
    const base = { do: 'write', vm: 'off', path: off?.fileName, key: off?.key, method: 'NfcRandomAccessOpenDisk', areas }
    expect(
      await run('vcenter', [
        { ...base, ssl: true, style: 'early', compression: 0 },
        { ...base, ssl: false, style: 'late', buffer: 2 << 20, count: 1, compression: 1 },
        { ...base, ssl: true, style: 'late', buffer: 1 << 20, count: 4, compression: 3 },
      ]),
    ).toEqual([{ back: true }, { back: true }, { back: true }])
  })
})
