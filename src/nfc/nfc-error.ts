import { AgentError } from '../core/index.ts'

/** Longest text of an error record that is read. Bytes. */
export const ERROR_TEXT_BYTES = 64 * 1024

/** What a host said to a request that it understood: the connection was not at fault. */
export class HostRefusal extends AgentError {}

/** What an error record means. Its text decides first because codes are few and uncertain; both stay in the message. */
export function nfcError(host: string, what: string, code: bigint, text: string): HostRefusal {
  const said = `${host}: ${text.trim().replaceAll(/\s+/g, ' ').slice(0, 300) || 'no reason given'}, NFC error ${code}`
  if (/multiwriter mode/i.test(text)) {
    return new HostRefusal('CONFLICT', `${what} is in use by its running VM (${said}).`, {
      subject: what,
      next: 'Only the frozen files below a snapshot can be read; name the file of the snapshot.',
      retry: 'never',
    })
  }
  if (/failed to lock|\b16392\b/i.test(text)) {
    return new HostRefusal('CONFLICT', `${what} is locked by another reader or VM (${said}).`, {
      subject: what,
      next: 'Wait until what holds the file has ended; a browser download of it counts.',
    })
  }
  if (/(?:not enough|no) space|disk (?:is )?full/i.test(text)) {
    return new HostRefusal('CAPACITY', `The datastore has no room left for ${what} (${said}).`, {
      subject: what,
      next: 'Free space on the datastore, or restore to another one.',
    })
  }
  if (/failed to allocate/i.test(text) || code === 5n) {
    return new HostRefusal('UNAVAILABLE', `The NFC memory of the host is used up (${said}).`, {
      subject: host,
      retry: 'later',
      next: 'Back up fewer disks of this host at the same time.',
    })
  }
  if (/maximum number of (?:sessions|connections)/i.test(text)) {
    return new HostRefusal('UNAVAILABLE', `The host gives out no further NFC session (${said}).`, {
      subject: host,
      retry: 'later',
      next: 'Back up fewer disks of this host, or through this vCenter, at the same time.',
    })
  }
  if (/permission check failed/i.test(text) || code === 11n) {
    return new HostRefusal('AUTH', `${what} is not covered by the NFC ticket (${said}).`, {
      subject: what,
      next: 'Check that the file belongs to the VM, and that the user may read (or write) its disks.',
    })
  }
  return new HostRefusal('UNAVAILABLE', `The host could not carry out the NFC request on ${what} (${said}).`, { subject: what })
}
