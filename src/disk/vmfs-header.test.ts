import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AgentError, MIB } from '../core/index.ts'
import { memoryBytes } from './memory-bytes.ts'
import { readVmfsHeader } from './vmfs-header.ts'

const UUID = '5f3a1b2c-0d4e5f60-7182-93a4b5c6d7e8'

/** A LUN by the tables of docs/formats/vmfs-header.md. */
function lun({ at = 19, gpt = true, magic = 0x2fabf15e, version = 24, lvm = true, fileSystem = true } = {}): Buffer {
  const start = gpt ? 2048 * 512 : 0
  const image = Buffer.alloc(start + 20 * MIB)
  if (gpt) {
    image.write('EFI PART', 512, 'latin1')
    image.writeBigUInt64LE(2n, 512 + 72)
    image.writeUInt32LE(128, 512 + 80)
    image.writeUInt32LE(128, 512 + 84)
    image.write('0fc63daf8483477280', 1024, 'hex')
    Buffer.from('2ae031aa0f40db119590000c2911d1b8', 'hex').copy(image, 1024 + 128)
    image.writeBigUInt64LE(2048n, 1024 + 128 + 32)
  }
  if (lvm) image.writeUInt32LE(0xc001d00d, start + MIB)
  if (!fileSystem) return image
  const header = image.subarray(start + at * MIB)
  header.writeUInt32LE(magic, 0)
  header.writeUInt32LE(version, 4)
  header.writeUInt32LE(0x5f3a1b2c, 9)
  header.writeUInt32LE(0x0d4e5f60, 13)
  header.writeUInt16LE(0x7182, 17)
  header.write('93a4b5c6d7e8', 19, 'hex')
  header.write('gold\0', 0x1d, 'latin1')
  header.writeBigUInt64LE(BigInt(MIB), 0xa1)
  return image
}

const read = (image: Buffer) => readVmfsHeader(memoryBytes(image, 'lun'))

describe('the headers of a VMFS volume', () => {
  test('uuid and label, behind a partition table or on the partition itself, in both layouts', async () => {
    for (const image of [lun(), lun({ at: 2 }), lun({ gpt: false }), lun({ version: 14, magic: 0x2fabf15f })])
      expect(await read(image)).toEqual({ uuid: UUID, label: 'gold' })
  })

  test('a further LUN of a spanned volume has no uuid; what is not VMFS or not known is refused', async () => {
    expect(await read(lun({ fileSystem: false }))).toEqual({ uuid: undefined, label: undefined })
    expect(await read(lun({ version: 31 }))).toEqual({ uuid: undefined, label: undefined })
    for (const image of [lun({ lvm: false }), Buffer.alloc(100), Buffer.alloc(4 * MIB, 0xff)])
      await expect(read(image)).rejects.toMatchObject({ code: 'INTEGRITY', message: 'There is no VMFS volume on lun.' })
  })

  test('whatever the bytes say, it is a header or an AgentError', async () => {
    const image = lun({ at: 2 })
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom(512, 1024, 1024 + 128, 2048 * 512 + MIB, 2048 * 512 + 2 * MIB), fc.nat(255), fc.nat(255)), {
          maxLength: 12,
        }),
        fc.nat(image.length),
        async (changes, length) => {
          const copy = Buffer.from(image.subarray(0, length))
          for (const [at, offset, value] of changes) if (at + offset < copy.length) copy[at + offset] = value
          try {
            const { uuid } = await read(copy)
            if (uuid !== undefined) expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}$/)
          } catch (error) {
            expect(error).toBeInstanceOf(AgentError)
          }
        },
      ),
      { numRuns: 100, seed: 7 },
    )
  })
})
