import { describe, expect, it } from 'vitest'
import { isAgentError } from '../core/index.ts'
import { ddbValue, descriptorCapacity, parentOf } from './descriptor.ts'
import { parseDescriptor } from './descriptor-parser.ts'
import { formatDescriptor } from './descriptor-writer.ts'
import { checkReadable } from './readable.ts'

const parse = (text: string | Uint8Array) => parseDescriptor(typeof text === 'string' ? Buffer.from(text) : text, 'x.vmdk')
const ESXI = `# Disk DescriptorFile
version=3
encoding="UTF-8"
CID=1f2E3d4c
parentCID=ffffffff
isNativeSnapshot="no"
createType="vmfs"
someFutureKey = "a = b"

# Extent description
RW 83886080 VMFS "web "01" ünï-flat.vmdk"

# Change Tracking File
changeTrackPath="web-ctk.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.thinProvisioned = "1"
ddb.longContentID = "0123456789abcdef012345671f2e3d4c"
DDB.Unknown.key = "kept "as" it is"
`

describe('parseDescriptor', () => {
  it('reads what ESXi writes, names with quotes and keys nobody knows included', () => {
    const descriptor = parse(ESXI)
    expect(descriptor.version).toBe(3)
    expect(descriptor.cid).toBe('1f2e3d4c')
    expect(descriptor.createType).toBe('vmfs')
    expect(descriptor.changeTrackPath).toBe('web-ctk.vmdk')
    expect(descriptor.extents).toEqual([{ access: 'RW', sectors: 83_886_080, type: 'VMFS', file: 'web "01" ünï-flat.vmdk' }])
    expect(descriptor.others.get('someFutureKey')).toBe('"a = b"')
    expect(ddbValue(descriptor, 'ddb.unknown.KEY')).toBe('kept "as" it is')
    expect(descriptorCapacity(descriptor)).toBe(83_886_080 * 512)
    expect(parentOf(descriptor)).toBeUndefined()
  })

  it('reads what qemu leaves when it writes a shorter content id over a longer one', () => {
    for (let digits = 1; digits <= 8; digits++) {
      const area = Buffer.alloc(10_240)
      area.write(ESXI)
      const shorter = ESXI.replace('1f2E3d4c\nparent', `${'59f2abc7'.slice(0, digits)}\nparent`)
      area.write(`${shorter}\0`)
      const descriptor = parse(area)
      expect(descriptor.cid, `${digits} digits`).toBe('59f2abc7'.slice(0, digits).padStart(8, '0'))
      expect({ ...descriptor, cid: '' }).toEqual({ ...parse(ESXI), cid: '' })
    }
    expect(() => parse(`${ESXI}\0 8 bytes`)).toThrow('holds zero bytes')
  })

  it('comes back unchanged through formatDescriptor', () => {
    const descriptor = parse(ESXI)
    expect(parse(formatDescriptor(descriptor))).toEqual(descriptor)
  })

  it('accepts CRLF, blanks round =, missing quotes and other cases of keys', () => {
    const descriptor = parse('\r\n# x\r\nVERSION = 1\r\ncid = 5\r\nCREATETYPE = monolithicFlat\r\nrw 8 flat "a.vmdk" 16\r\n')
    expect(descriptor.cid).toBe('00000005')
    expect(descriptor.extents).toEqual([{ access: 'RW', sectors: 8, type: 'FLAT', file: 'a.vmdk', offset: 16 }])
  })

  it('decodes the encodings hosted products write', () => {
    const gbk = Buffer.concat([
      Buffer.from('version=1\nencoding="GBK"\nCID=1\ncreateType="monolithicFlat"\nRW 8 FLAT "'),
      Buffer.from([0xd6, 0xd0, 0xce, 0xc4]),
      Buffer.from('.vmdk" 0\n'),
    ])
    expect(parse(gbk).extents[0]?.file).toBe('中文.vmdk')
    const windows = Buffer.from(
      'version=1\nencoding="windows-1252"\nCID=1\ncreateType="monolithicFlat"\nRW 8 FLAT "\xfc.vmdk" 0\n',
      'latin1',
    )
    expect(parse(windows).extents[0]?.file).toBe('ü.vmdk')
    expect(() => parse(Buffer.from('version=1\nencoding="UTF-8"\nCID=1\ncreateType="vmfs"\nRW 8 VMFS "\xfc"\n', 'latin1'))).toThrow(
      /not UTF-8/,
    )
    expect(() => parse(Buffer.from('version=1\nencoding="klingon"\nCID=1\ncreateType="vmfs"\nRW 8 VMFS "\xfc"\n', 'latin1'))).toThrow(
      /klingon/,
    )
  })

  it('follows native parents named in the disk data base', () => {
    const native = parse(
      'version=1\nCID=2\nparentCID=ffffffff\ncreateType="vmfs"\nRW 8 VMFS "a"\nddb.nativeParentCID = "a"\nddb.nativeParentHint = "base.vmdk"\n',
    )
    expect(parentOf(native)).toEqual({ reference: 'base.vmdk', cid: '0000000a' })
  })

  for (const [what, text, message] of [
    ['nothing', '', /is empty/],
    ['a raw image', Buffer.from([0xeb, 0x63, 0x90, 0x00, ...Array.from({ length: 8 }, () => 0x41)]), /zero bytes/],
    ['another file', 'hello = world\n', /version line/],
    ['version 4', 'version=4\nCID=1\ncreateType="vmfs"\n', /version "4"/],
    ['no CID', 'version=1\ncreateType="vmfs"\nRW 8 VMFS "a"\n', /CID/],
    ['a CID that is none', 'version=1\nCID=xyz\ncreateType="vmfs"\n', /8 hex digits/],
    ['no createType', 'version=1\nCID=1\n', /createType/],
    ['an unknown extent type', 'version=1\nCID=1\ncreateType="vmfs"\nRW 8 MAGIC "a"\n', /unknown type "MAGIC" \(line 4\)/],
    ['FLAT without offset', 'version=1\nCID=1\ncreateType="monolithicFlat"\nRW 8 FLAT "a"\n', /without an offset/],
    ['an extent without file', 'version=1\nCID=1\ncreateType="vmfs"\nRW 8 VMFS\n', /without a file name/],
    ['an empty extent', 'version=1\nCID=1\ncreateType="vmfs"\nRW 0 VMFS "a"\n', /0 sectors/],
    ['more sectors than exist', 'version=1\nCID=1\ncreateType="vmfs"\nRW 9999999999999999 VMFS "a"\n', /sectors/],
    ['a key twice', 'version=1\nCID=1\nCID=2\ncreateType="vmfs"\n', /twice/],
    ['a line of rubbish', 'version=1\nwhat is this\n', /line 2/],
  ] as const) {
    it(`refuses ${what}`, () => {
      expect(() => parse(text)).toThrow(message)
      expect(() => parse(text)).toThrow(expect.toSatisfy((error: unknown) => isAgentError(error, 'INTEGRITY')))
    })
  }

  it('refuses a descriptor of many MiB without decoding it', () => {
    expect(() => parse(new Uint8Array(5 * 1024 * 1024))).toThrow(/too large/)
  })
})

describe('formatDescriptor', () => {
  it('refuses values that would make new lines', () => {
    const descriptor = parse(ESXI)
    expect(() => formatDescriptor({ ...descriptor, parentFileNameHint: 'a"\nRW 8 VMFS "/etc/shadow' })).toThrow(/cannot be written/)
    expect(() => formatDescriptor({ ...descriptor, ddb: new Map([['ddb.comment', 'a\rb']]) })).toThrow(/cannot be written/)
  })
})

describe('checkReadable', () => {
  for (const [createType, extent, message] of [
    ['vmfsRawDeviceMap', 'RW 8 VMFSRDM "x-rdm.vmdk"', /raw device mapping \(virtual/],
    ['vmfsPassthroughRawDeviceMap', 'RW 8 VMFSRDM "x-rdmp.vmdk"', /physical mode/],
    ['vsanSparse', 'RW 8 VSANSPARSE "vsan://1"', /vSAN/],
    ['vmfs', 'RW 8 VMFS "vsan://7a2a0b5e-1111"', /vsan object/],
    ['vmfs', 'RW 8 VMFS "vvol://7a2a0b5e-1111"', /vvol object/],
    ['vmfs', 'NOACCESS 8 VMFS "x"', /NOACCESS/],
    ['vmfs', 'RW 8 VMFSRDM "x"', /raw device/],
    ['vmfs', 'RW 8 VMFS "x" 7', /offset/],
    ['vmfs', 'RW 8 SESPARSE "x"', /cannot have/],
    ['mystery', 'RW 8 VMFS "x"', /unknown createType "mystery"/],
    ['constructor', 'RW 8 VMFS "x"', /unknown createType "constructor"/],
    ['fullDevice', 'RW 8 FLAT "/dev/sda" 0', /physical disk/],
  ] as const) {
    it(`refuses ${createType} with ${extent}`, () => {
      const descriptor = parse(`version=1\nCID=1\ncreateType="${createType}"\n${extent}\n`)
      expect(() => checkReadable(descriptor, 'x.vmdk')).toThrow(message)
    })
  }
})
