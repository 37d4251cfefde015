import { randomUUID } from 'node:crypto'
import type { Clock } from '../../core/index.ts'
import type { LabKind } from '../wire/index.ts'

/** What one ticket opens: disks of one VM, or one disk of it, to read or to write, on the host that runs the VM; or what lies on a datastore, to read. */
export type NfcTicket = {
  readonly sessionId: string
  /** moref on the vCenter endpoint; absent for a ticket to a datastore. */
  readonly vm: string | undefined
  /** Name of the datastore that the ticket is for; absent for a ticket to a VM. */
  readonly datastore?: string | undefined
  readonly access: 'read' | 'write'
  /** Device key; any disk of the VM when absent. */
  readonly disk: number | undefined
  /** The host's moref on the vCenter endpoint: whose sessions and memory it counts against. */
  readonly host: string
  readonly through: LabKind
  readonly issuedMs: number
}

/** Where the NFC server listens; the tickets name it. */
export type NfcDoor = {
  readonly port: number
  readonly sslThumbprint: string
  /** PEM, for tickets that carry the certificate instead. */
  readonly certificate: string
}

/** Used tickets are remembered for so many lifetimes, to tell a second use from an invention. */
const REMEMBERED = 4

/** Tickets for the NFC port: each works once, and for a limited time. In memory: a restarted host knows none. */
export class NfcTickets {
  /** Set by the composition once the server listens. */
  door: NfcDoor | undefined
  readonly #clock: Clock
  readonly #lifeMs: number
  readonly #tickets = new Map<string, { readonly ticket: NfcTicket; spent: boolean }>()

  constructor(clock: Clock, lifeMs: number) {
    this.#clock = clock
    this.#lifeMs = lifeMs
  }

  issue(what: Omit<NfcTicket, 'sessionId' | 'issuedMs'>): NfcTicket {
    const now = this.#clock.monotonicMs()
    for (const [id, { ticket }] of this.#tickets) if (now - ticket.issuedMs > this.#lifeMs * REMEMBERED) this.#tickets.delete(id)
    const ticket = Object.freeze({ ...what, sessionId: randomUUID(), issuedMs: now })
    this.#tickets.set(ticket.sessionId, { ticket, spent: false })
    return ticket
  }

  /** What a ticket would open, without using it; undefined for one never issued. */
  peek(sessionId: string): NfcTicket | undefined {
    return this.#tickets.get(sessionId)?.ticket
  }

  /** Uses a ticket up, or says why it is worth nothing. */
  redeem(sessionId: string): NfcTicket | 'unknown' | 'spent' | 'expired' {
    const found = this.#tickets.get(sessionId)
    if (found === undefined) return 'unknown'
    if (found.spent) return 'spent'
    if (this.#clock.monotonicMs() - found.ticket.issuedMs > this.#lifeMs) return 'expired'
    found.spent = true
    return found.ticket
  }
}
