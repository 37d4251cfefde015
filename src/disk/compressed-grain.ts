import { promisify } from 'node:util'
import { inflate } from 'node:zlib'
import { corrupt } from './corrupt.ts'

const inflateAsync = promisify<Uint8Array, { maxOutputLength: number }, Buffer>(inflate)

/** Bytes before the compressed data of a grain: u64 LBA and u32 size with markers, u32 size without. */
export const grainHeadBytes = (markers: boolean): number => (markers ? 12 : 4)

/** Most bytes a compressed grain may take; incompressible data grows a little, anything beyond is damage. */
export const maxCompressedBytes = (grainBytes: number): number => 2 * grainBytes + 4096

/** Inflates one grain (zlib-wrapped, RFC 1950) and checks its length; the last grain of a disk may be stored short. */
export async function inflateGrain(data: Uint8Array, grainBytes: number, needed: number, what: string, name: string): Promise<Uint8Array> {
  let plain: Uint8Array
  try {
    plain = await inflateAsync(data, { maxOutputLength: grainBytes })
  } catch (cause) {
    throw corrupt(name, `holds ${what} whose compressed data is damaged`, cause)
  }
  if (plain.length !== grainBytes && plain.length !== needed) {
    throw corrupt(name, `holds ${what} with ${plain.length} bytes instead of ${needed}`)
  }
  return plain.length === needed ? plain : plain.subarray(0, needed)
}
