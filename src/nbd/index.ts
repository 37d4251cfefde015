/**
 * Rank 1. The NBD protocol (docs/formats/nbd.md), both ends: a client that reads and writes the disks of nbdkit and qemu-nbd, and a server that offers
 * `BlockSource`s on a Unix socket to nbdfuse, nbdcopy, qemu-img and backup products.
 *
 * `NbdConnection` is one connection, to a socket or to a program started for it (`startServer`); `createNbdDisk` and `createNbdSink` make a source or a sink of it; `serveNbd` is the server.
 */
export { type ConnectionOptions, NbdConnection } from './connection.ts'
export type { NbdAddress } from './dial.ts'
export type { ExportInfo } from './handshake.ts'
export { createNbdDisk } from './nbd-disk.ts'
export { createNbdSink } from './nbd-sink.ts'
export type { ExportActivity, NbdExport } from './served-export.ts'
export { type RunningServer, type ServerProgram, startServer } from './server-program.ts'
export { LONGEST_SOCKET_PATH, type NbdServer, type NbdServerOptions, serveNbd } from './server.ts'
