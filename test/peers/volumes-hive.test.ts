import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { zeroSource } from '../../src/disk/index.ts'
import { layOut, type Volume, type VolumePartition } from '../../src/mount/index.ts'
import { emptyHive } from '../empty-hive.ts'
import { describePeers } from '../peer.ts'

const GUID = '0c1d2e3f-4a5b-6c7d-8e9f-a0b1c2d3e4f5'
const PLACE = { disk: 2000, index: 1, type: '07', uuid: undefined, name: undefined, diskSignature: undefined }

describePeers(['hivexsh', 'hivexget'], 'drive letters in a hive written by hivex', (peers) => {
  let directory = ''
  let path = ''
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'vcb-hive-'))
    path = join(directory, 'SYSTEM')
    writeFileSync(path, emptyHive())
    const values = [
      ['\\DosDevices\\C:', 'hex:3:34,12,fe,ca,00,00,50,06,00,00,00,00'],
      ['\\DosDevices\\E:', 'hex:3:44,4d,49,4f,3a,49,44,3a,3f,2e,1d,0c,5b,4a,7d,6c,8e,9f,a0,b1,c2,d3,e4,f5'],
      ['\\DosDevices\\A:', 'hex:3:5c,00,3f,00,3f,00,5c,00'],
      ['\\DosDevices\\F:', 'hex:3:34,12,fe,ca,00,00,50,07,00,00,00,00'],
      ['\\??\\Volume{0c1d2e3f-0000-0000-0000-000000000000}', 'hex:3:34,12,fe,ca,00,00,50,06,00,00,00,00'],
    ]
    const others = Array.from({ length: 300 }, (_, index) => `add Key${index}`)
    const script = [...others, 'add MountedDevices', 'cd MountedDevices', `setval ${values.length}`, ...values.flat(), 'commit']
    execFileSync(peers.hivexsh, ['-w', path], { input: `${script.join('\n')}\n`, stdio: ['pipe', 'ignore', 'pipe'] })
  })
  afterAll(() => rmSync(directory, { recursive: true }))

  const ntfs = (number: number, partition: VolumePartition): Volume => ({
    number,
    name: `v${number}`,
    source: zeroSource(512),
    content: { kind: 'file-system', type: 'ntfs', uuid: undefined, label: undefined, dirty: false, note: undefined },
    partition,
    logical: undefined,
  })

  it('by disk signature and offset, and by GUID; letters of what is not here are left out', async () => {
    expect(execFileSync(peers.hivexget, [path, '\\MountedDevices']).toString()).toContain('"\\\\DosDevices\\\\C:"=hex(3):34,12,fe,ca')
    const windows = ntfs(1, { ...PLACE, scheme: 'mbr', diskSignature: 0xcafe1234, offset: 0x06500000 })
    const data = ntfs(2, { ...PLACE, scheme: 'gpt', uuid: GUID, offset: 0x06500000 })
    const other = ntfs(3, { ...PLACE, scheme: 'mbr', diskSignature: 0xcafe1235, offset: 0x07500000 })
    const asked: string[] = []
    const layout = await layOut([windows, data, other], [2000], async (volume, names, { anyCase }) => {
      asked.push(`${volume.number} ${names.join('/')} ${anyCase}`)
      return volume === windows ? readFileSync(path) : undefined
    })
    expect(layout.places.map((place) => [place.path, place.volume.number])).toEqual([
      ['digits/1', 1],
      ['digits/2', 2],
      ['digits/3', 3],
      ['letters/C', 1],
      ['letters/E', 2],
    ])
    expect(asked[0]).toBe('1 Windows/System32/config/SYSTEM true')
  })
})
