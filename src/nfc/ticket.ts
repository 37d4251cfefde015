import { AgentError } from '../core/index.ts'

/** What vSphere gives out for one NFC session (HostServiceTicket); works once. */
export type NfcTicket = {
  /** Host to dial: the ticket's, or the one logged in to when the ticket names none. */
  readonly host: string
  readonly port: number
  /** SHA-1 of the certificate on that port; hex pairs, colons and case do not count. */
  readonly thumbprint: string
  /** `nfc` or `vpxa-nfc`. */
  readonly service: string
  /** The one-time secret. Never logged. */
  readonly sessionId: string
}

/** 40 or 64 lower-case hex digits. INTEGRITY when it is no SHA-1 or SHA-256. */
export function parseThumbprint(text: string): string {
  const hex = text.trim().replaceAll(':', '').toLowerCase()
  if (!/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(hex)) {
    throw new AgentError('INTEGRITY', `${JSON.stringify(text.slice(0, 100))} is not the thumbprint of a certificate.`)
  }
  return hex
}

/** The word after PROXY. INTEGRITY for a service that is none of NFC's: it would end up in a command line. */
export function proxyService(ticket: NfcTicket, encrypted: boolean): string {
  const plain = ticket.service.replace(/ssl$/, '')
  if (plain !== 'nfc' && plain !== 'vpxa-nfc') {
    throw new AgentError(
      'INTEGRITY',
      `The ticket of ${ticket.host} is for the service ${JSON.stringify(ticket.service.slice(0, 40))}, not for NFC.`,
      {
        subject: ticket.host,
      },
    )
  }
  return encrypted ? `${plain}ssl` : plain
}
