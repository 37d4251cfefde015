/**
 * The NFC service of the lab's hosts: the disk protocol of TCP 902 (`docs/formats/nfc.md`), by tickets that SOAP hands out, on the lab's own disks.
 *
 * `serveNfc` listens; a connection passes `admit` (greeting, TLS, ticket), `shakeHands` (classic frames) and `DiskSession` (AIO records). Written
 * from the specification alone and sharing no code with the agent's client, so that either shows the other's mistakes. Every step asks the
 * lab's fault rules (`nfc:…`, docs/lab-scenario.md).
 */
export { type NfcServer, type NfcSessionState, serveNfc } from './nfc-server.ts'
