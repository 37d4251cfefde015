import { type Evidence, fileSystem } from './evidence.ts'
import type { VolumeContent } from './volume.ts'

const DESCRIPTORS_AT = 32_768
const DESCRIPTOR = 2048
const FEW = 16

/** ISO 9660, or UDF where a descriptor says so (an image that is both is UDF to Windows; its ISO label is shown). */
export function recogniseOptical({ head }: Evidence): VolumeContent | undefined {
  let iso: Buffer | undefined
  let udf = false
  for (let index = 0; index < FEW; index++) {
    const at = DESCRIPTORS_AT + index * DESCRIPTOR
    const magic = head.toString('latin1', at + 1, at + 6)
    if (magic === 'CD001' && head.readUInt8(at) === 1) iso ??= head.subarray(at, at + DESCRIPTOR)
    if (magic === 'NSR02' || magic === 'NSR03') udf = true
  }
  if (iso === undefined && !udf) return undefined
  const name = iso?.toString('latin1', 40, 72).trimEnd()
  return fileSystem(udf ? 'udf' : 'iso9660', {
    uuid: udf || iso === undefined ? undefined : date(iso),
    label: name === '' ? undefined : name,
    dirty: false,
  })
}

/** The time of its last change, or of its making: `YYYY-MM-DD-HH-MM-SS-cc`, which is what Linux calls its UUID. */
function date(iso: Buffer): string | undefined {
  const digits = [830, 813].map((at) => iso.toString('latin1', at, at + 16)).find((text) => /^\d{16}$/.test(text) && !/^0+$/.test(text))
  return digits === undefined ? undefined : [digits.slice(0, 4), ...(digits.slice(4).match(/../g) ?? [])].join('-')
}
