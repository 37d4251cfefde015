/**
 * What a fault rule can make the NFC server do wrong (`nfc`), by the step it belongs to (`on`). What needs no rule, because the server always does
 * it, is not here: refusing used or old tickets, another VM's file, a running VM's live disk, a locked file, unaligned queries.
 */
export const NFC_QUIRKS = [
  // nfc:greeting
  'noSha256',
  'noNfcssl',
  'longLine',
  'not220',
  'maintenance',
  // nfc:tls
  'wrongSha256',
  'otherCertificate',
  // nfc:tls2
  'otherSecondCertificate',
  // nfc:ticket
  'wrongThumbprint',
  'certificate',
  // nfc:proxy
  'unknown',
  'spent',
  'expired',
  // nfc:frame
  'looseRecords',
  'holdParameters',
  'version',
  'end',
  'errorFrame',
  // nfc:session
  'memoryFull',
  'sessionLimit',
  'bufferRefused',
  // nfc:gone
  'halfOpen',
  // nfc:open
  'multiwriter',
  'locked',
  'permission',
  'statusOnly',
  'wrongCapacity',
  'oddCapacity',
  'noSectorSize',
  // nfc:read
  'oddChunks',
  'oddFirst',
  'hold',
  'pastEnd',
  'overlap',
  'wireLength',
  'shortRecord',
  'badData',
  'runPastEnd',
  'stored',
  'cutChunk',
  // nfc:query
  'wrongCount',
  // nfc:key
  'wrongValue',
  // several steps
  'error',
  'status',
  'silence',
  'badMagic',
  'badOpId',
] as const

export type NfcQuirk = (typeof NFC_QUIRKS)[number]
