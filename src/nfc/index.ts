/**
 * Rank 1. The NFC disk protocol of ESXi hosts (TCP 902), the wire of the transports `nbd` and `nbdssl`: a ticket, the authd dialogue, one
 * session per disk, pipelined reads, allocated blocks, writes. Knows no SOAP: whoever holds a vSphere session brings the ticket.
 * `openNfcSession` is the way in, `createNfcDisk` and `createNfcSink` make a source or a sink of it; `docs/formats/nfc.md` is the protocol.
 */
export type { ChunkCompression } from './chunk-codec.ts'
export { type NfcTicket, parseThumbprint } from './ticket.ts'
export { type DialOptions, dialNfc } from './dial.ts'
export { type DiskInfo, NfcSession, type SessionOptions } from './session.ts'
export { openNfcSession } from './open-session.ts'
export { createNfcDisk, type NfcDisk } from './nfc-disk.ts'
export { createNfcSink } from './nfc-sink.ts'
