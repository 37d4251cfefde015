import { createServer, type Socket } from 'node:net'
import type { Model } from '../model/index.ts'
import { listen } from '../wire/index.ts'
import { admit } from './authd-dialogue.ts'
import { type Identity, inClear, secureContext, TlsTurn } from './connection.ts'
import { DiskSession, type SessionFacts } from './disk-session.ts'
import { shakeHands } from './handshake.ts'
import { HostLimits } from './host-limits.ts'
import { ConnectionOver } from './inbox.ts'
import { stepFaults, type StepNames } from './step-faults.ts'

/** One open connection past its ticket, for `vcb lab state`. */
export type NfcSessionState = {
  readonly vm: string
  readonly host: string
  readonly through: 'vcenter' | 'esxi'
  readonly encrypted: boolean
  /** What the client calls itself. */
  readonly client: string
  readonly path: string | undefined
  readonly access: 'read' | 'write' | undefined
  readonly bufferBytes: number
  readonly memoryBytes: number
}

export type NfcServer = AsyncDisposable & {
  readonly port: number
  /** Open TCP connections, also those without a ticket. */
  readonly connections: number
  readonly memoryBytes: number
  readonly sessions: () => readonly NfcSessionState[]
}

export type NfcServerOptions = {
  readonly model: Model
  /** The certificate that hosts show on this port. */
  readonly identity: Identity
  /** Another one, for rules that want a stranger to answer. */
  readonly stranger: () => Promise<Identity>
  readonly port: number
}

type Facts = SessionFacts & Pick<NfcSessionState, 'vm' | 'host' | 'through' | 'encrypted'> & { client: string }

/** Serves the NFC disk protocol on 127.0.0.1. A connection that ends, in whatever way, gives back its locks and buffers. UNAVAILABLE. */
export async function serveNfc(options: NfcServerOptions): Promise<NfcServer> {
  const { model } = options
  const limits = new HostLimits(model.nfc)
  const sockets = new Set<Socket>()
  const live = new Set<Facts>()
  const running = new Set<Promise<void>>()

  const server = createServer({ noDelay: true, keepAlive: true }, (socket) => {
    sockets.add(socket)
    const gone = new AbortController()
    socket.on('error', (error) => model.log.debug('an NFC connection broke', { error: error.message }))
    socket.once('close', () => {
      sockets.delete(socket)
      gone.abort(new ConnectionOver('the client closed the connection'))
    })
    const done = serve(socket, gone.signal)
      .catch((error: unknown) => {
        if (error instanceof ConnectionOver || gone.signal.aborted) model.log.debug('an NFC connection ended', { why: String(error) })
        else model.log.error('an NFC connection failed', { error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
      })
      .finally(() => {
        socket.destroy()
        running.delete(done)
      })
    running.add(done)
  })

  async function serve(socket: Socket, gone: AbortSignal): Promise<void> {
    const { identity, stranger } = options
    const admission = await admit({ model, socket, identity, stranger, gone })
    const { ticket, encrypted } = admission
    const vm = ticket.vm === undefined ? undefined : model.world.vm(ticket.vm)
    const host = model.world.host(ticket.host)?.name ?? ticket.host
    const who: StepNames = { names: [...(vm === undefined ? [] : model.names(vm)), host], endpoint: ticket.through }
    const facts: Facts = {
      vm: vm?.config.name ?? ticket.vm ?? `[${ticket.datastore ?? ''}]`,
      host,
      through: ticket.through,
      encrypted,
      client: '',
      path: undefined,
      access: undefined,
      bufferBytes: 0,
      memoryBytes: 0,
    }
    const owned = new AsyncDisposableStack()
    live.add(facts)
    const same = [...live].filter(({ through }) => through === ticket.through)
    model.peaks.note(`NFC sessions through ${ticket.through}`, same.length)
    model.peaks.note(`NFC sessions of ${host}`, [...live].filter((other) => other.host === host).length)
    owned.defer(() => {
      live.delete(facts)
    })
    const release = async (): Promise<void> => {
      const half = model.rules.strike({ on: 'nfc:gone', ...who }, 'nfc').find((rule) => rule.nfc === 'halfOpen')
      if (half !== undefined) await model.clock.sleep(half.value ?? 1000, { signal: closing.signal }).catch(() => undefined) // the lab stops
      await owned.disposeAsync()
    }
    // At once when the client leaves, whatever is being done for it.
    let released: Promise<void> | undefined
    const onGone = (): void => {
      released ??= release()
      released.catch((error: unknown) => model.log.error('an NFC session was not released', { error: String(error) }))
    }
    if (gone.aborted) onGone()
    else gone.addEventListener('abort', onGone, { once: true })
    try {
      const speech = encrypted ? await secondTurn(socket, who, gone) : inClear(socket)
      const { client } = await shakeHands(speech, { model, admission, who, gone })
      facts.client = client
      await new DiskSession(speech, { model, ticket, limits, who, gone, facts, owned }).run()
      released ??= owned.disposeAsync()
      await speech.outlet.farewell()
    } finally {
      // What a cut connection held may outlive it, not the other way round.
      socket.destroy()
      released ??= release()
      await released
    }
  }

  async function secondTurn(socket: Socket, who: StepNames, gone: AbortSignal): Promise<TlsTurn> {
    const faults = await stepFaults(model, 'nfc:tls2', who, gone)
    const shown = faults.quirk('otherSecondCertificate') === undefined ? options.identity : await options.stranger()
    return TlsTurn.acceptForGood(socket, secureContext(shown))
  }

  const closing = new AbortController()
  const port = await listen(server, { host: '127.0.0.1', port: options.port }, 'NFC')

  return {
    port,
    get connections() {
      return sockets.size
    },
    get memoryBytes() {
      return limits.bytes
    },
    sessions: () => [...live].map((facts) => Object.freeze({ ...facts })),
    [Symbol.asyncDispose]: async () => {
      closing.abort()
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
      })
      await Promise.all(running)
    },
  }
}
