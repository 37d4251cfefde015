/**
 * Rank 1. The shell of an ESXi host: one connection with a pinned host key, commands in it, and the host's files read and written through
 * programs that every host has. Nothing is installed there, and nothing is left.
 *
 * `createSshHosts` knows which hosts may be used and shares a connection among its users; `SshConnection.run` runs a command whose words are quoted
 * by `shellWord` alone; `openRemoteFiles` reads with the host's python3 (docs/formats/ssh-host-files.md), or its dd where that is missing.
 *
 * `SftpSession` is the files of any server over SFTP, for repositories there (docs/formats/sftp.md).
 */
export { type CommandOptions, type CommandResult, SshConnection } from './connection.ts'
export { fingerprintOf, type HostKeyPin, parseFingerprint } from './host-key.ts'
export { openRemoteFiles } from './open-files.ts'
export type { RemoteFile, RemoteFiles, RemotePiece, WritableRemoteFile } from './remote-files.ts'
export { type SftpName, SftpSession } from './sftp-session.ts'
export { shellLine, shellWord } from './shell-word.ts'
export type { SshDeps, SshHost, SshLogin } from './ssh-host.ts'
export { createSshHosts, notConfigured, type SshHosts } from './ssh-hosts.ts'
