/** The 32 hex digits of a uuid, lower case, however it is written: the API has `6000C29a-…`, a descriptor `60 00 C2 9a …-…`, an NAA id neither. */
export function uuidDigits(uuid: string | undefined): string | undefined {
  const digits = uuid?.replaceAll(/[^0-9a-fA-F]/g, '').toLowerCase()
  return digits === undefined || digits.length !== 32 ? undefined : digits
}

/**
 * How one uuid may be written in SMBIOS and in vSphere: the first three groups are little-endian numbers to some firmware and programs, bytes in order to
 * others (SMBIOS 3.x, 7.2.1). Both ways, dashed and lower case; empty for what is no uuid.
 */
export function uuidWays(uuid: string): readonly string[] {
  const digits = uuidDigits(uuid)
  if (digits === undefined) return []
  const bytes = Buffer.from(digits, 'hex')
  const swapped = Buffer.concat([
    bytes.subarray(0, 4).toReversed(),
    bytes.subarray(4, 6).toReversed(),
    bytes.subarray(6, 8).toReversed(),
    bytes.subarray(8),
  ])
  return [...new Set([dashed(digits), dashed(swapped.toString('hex'))])]
}

/**
 * The uuid of a virtual disk from the 32 digits that its NVMe namespace shows. The namespace's NGUID (NVM Express base specification 1.3: 8 bytes of an
 * extension, 3 of the OUI, 5 more) holds the same 16 bytes as the NAA id, in the order that its format asks for: the second half first, then the OUI, which
 * the NAA id has half a byte further on, then the rest, the NAA's own half byte (6) in the place freed. That is how VMware's Kubernetes storage driver computes the
 * one from the other; digits that already are such a uuid are taken as they are.
 */
export function uuidOfNguid(digits: string): string | undefined {
  const nguid = uuidDigits(digits)
  if (nguid === undefined || /^0+$/.test(nguid)) return undefined
  if (nguid.startsWith('6000c29')) return nguid
  // [extension: 16][OUI: 6][NAA: 1][rest: 9] → [NAA][OUI][rest][extension]
  return `${nguid[22]}${nguid.slice(16, 22)}${nguid.slice(23)}${nguid.slice(0, 16)}`
}

const dashed = (digits: string): string => digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')

/**
 * The NAA id in a SCSI Device Identification page (SPC-4, 7.8.6: VPD page 83h), 32 hex digits. VMware gives a disk's uuid there when the VM has
 * `disk.EnableUUID`. Undefined when there is none or the page is not well formed.
 */
export function naaOfPage83(page: Uint8Array): string | undefined {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength)
  if (page.length < 4 || page[1] !== 0x83) return undefined
  const end = Math.min(page.length, 4 + view.getUint16(2))
  for (let at = 4; at + 4 <= end; ) {
    const kind = view.getUint8(at + 1) & 0x0f
    const association = (view.getUint8(at + 1) >> 4) & 0x03
    const length = view.getUint8(at + 3)
    if (at + 4 + length > end) return undefined
    // Type 3 is NAA; association 0 is the logical unit itself.
    if (kind === 3 && association === 0 && length === 16) return Buffer.from(page.subarray(at + 4, at + 20)).toString('hex')
    at += 4 + length
  }
  return undefined
}
