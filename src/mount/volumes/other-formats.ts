import { KIB, MIB } from '../../core/index.ts'
import { type Evidence, refused } from './evidence.ts'
import type { VolumeContent } from './volume.ts'

type Mark = { readonly what: string; readonly at: number; readonly bytes: string }

/** `bytes` in latin1. Recognised so that they are named; sources in docs/formats/file-systems.md. */
const NOT_OPENED: readonly Mark[] = [
  { what: 'APFS', at: 32, bytes: 'NXSB' },
  { what: 'HFS+', at: 1024, bytes: 'H+\0\x04' },
  { what: 'HFS+', at: 1024, bytes: 'HX\0\x05' },
  { what: 'f2fs', at: 1024, bytes: '\x10\x20\xf5\xf2' },
  { what: 'ReiserFS', at: 65_536 + 52, bytes: 'ReIsEr' },
  { what: 'JFS', at: 32_768, bytes: 'JFS1' },
  { what: 'bcache', at: 4096 + 24, bytes: '\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81' },
  { what: 'VDO', at: 0, bytes: 'dmvdo001' },
  { what: 'Stratis', at: 512 + 4, bytes: '!Stra0tis\x86\xff\x02^\x41rh' },
  { what: 'squashfs', at: 0, bytes: 'hsqs' },
]

/** Pages of 4 to 64 KiB; the mark stands at the end of the first page. */
const PAGES = [4, 8, 16, 32, 64].map((kib) => kib * KIB)

/** Swap, and file systems and containers that are named and not opened. */
export async function recogniseOther(evidence: Evidence): Promise<VolumeContent | undefined> {
  const { head } = evidence
  for (const page of PAGES) {
    const mark = head.toString('latin1', page - 10, page)
    if (mark === 'SWAPSPACE2' || mark === 'SWAP-SPACE') return { kind: 'none', what: 'swap' }
    if (['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001'].some((name) => mark.startsWith(name))) {
      return { kind: 'none', what: 'swap, with a hibernated Linux' }
    }
  }
  const found =
    NOT_OPENED.find(({ at, bytes }) => head.toString('latin1', at, at + bytes.length) === bytes)?.what ?? (await recogniseFar(evidence))
  return found === undefined ? undefined : refused(found, `${found} is not opened here; use the image file of the disk, or restore it.`)
}

/** What has its mark behind the first 72 KiB. */
async function recogniseFar({ part }: Evidence): Promise<string | undefined> {
  const vmfs = await part(MIB, 4)
  if (vmfs?.readUInt32LE(0) === 0xc001d00d) return 'VMFS'
  const uberblocks = await part(128 * KIB, 128 * KIB)
  if (uberblocks === undefined) return undefined
  for (let at = 0; at < uberblocks.length; at += KIB) {
    if (uberblocks.readBigUInt64LE(at) === 0x00bab10cn || uberblocks.readBigUInt64BE(at) === 0x00bab10cn) return 'ZFS'
  }
  return undefined
}
