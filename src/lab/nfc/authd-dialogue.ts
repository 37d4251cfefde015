import type { Socket } from 'node:net'
import type { Model, NfcTicket } from '../model/index.ts'
import { type Identity, secureContext, TlsTurn } from './connection.ts'
import { ConnectionOver } from './inbox.ts'
import { stepFaults, type StepNames } from './step-faults.ts'

const VERSION = 'VMware Authentication Daemon Version 1.10'
const LONGEST_LINE = 1024
const SERVICES = new Set(['nfc', 'nfcssl', 'vpxa-nfc', 'vpxa-nfcssl'])
const PLEASE_LOG_IN = '530 Please login with USER and PASS'

export type DialogueOptions = {
  readonly model: Model
  readonly socket: Socket
  readonly identity: Identity
  /** Shown instead where a rule says so. */
  readonly stranger: () => Promise<Identity>
  readonly gone: AbortSignal
}

/** What the dialogue settled. The socket is free of TLS again, the client speaks next. */
export type Admission = {
  readonly ticket: NfcTicket
  readonly encrypted: boolean
  /** Word of THUMBPRINT_SHA2, which frame 43 repeats; undefined when the client left the command out. */
  readonly word: string | undefined
  /** The greeting had the SHA256 item, so frame 43 comes. */
  readonly sha256: boolean
}

const NOBODY: StepNames = { names: [] }

/** Greeting, TLS session no. 1 and the lines in it, up to the granted PROXY and the silent end of that session. */
export async function admit(options: DialogueOptions): Promise<Admission> {
  const { model, socket, gone } = options
  const greeting = await stepFaults(model, 'nfc:greeting', NOBODY, gone)
  const sha256 = greeting.quirk('noSha256') === undefined
  const nfcssl = greeting.quirk('noNfcssl') === undefined
  const items = [
    'SSL Required',
    ' ServerDaemonProtocol:SOAP',
    ' MKSDisplayProtocol:VNC ',
    ' VMXARGS supported',
    ...(nfcssl ? [' NFCSSL supported/t'] : []),
    ...(sha256 ? [' SHA256 supported'] : []),
    ...(greeting.quirk('longLine') === undefined ? [] : [` ${'X'.repeat(2048)}`]),
  ]
  const refused = greeting.quirk('maintenance') !== undefined
  const first = refused
    ? '501 The host is in maintenance mode'
    : `${greeting.quirk('not220') === undefined ? '220' : '200'} ${VERSION}: ${items.join(',')}`
  await new Promise<void>((resolve) => socket.write(`${first}\r\n`, () => resolve()))
  if (refused) throw new ConnectionOver('a fault rule of the lab put the host in maintenance mode')

  const tlsFaults = await stepFaults(model, 'nfc:tls', NOBODY, gone)
  const shown = tlsFaults.quirk('otherCertificate') === undefined ? options.identity : await options.stranger()
  const turn = await TlsTurn.accept(socket, secureContext(shown))
  const say = (line: string): Promise<void> => turn.outlet.flush(Buffer.from(`${line}\r\n`, 'latin1'))

  let sessionId: string | undefined
  let word: string | undefined
  for (;;) {
    const line = await turn.inbox.readLine(LONGEST_LINE)
    const [command = '', argument = ''] = line.split(/ (.*)/s)
    await stepFaults(model, 'nfc:line', { names: [command] }, gone)
    switch (command) {
      case 'SESSION':
        sessionId = argument
        continue
      case 'BANNER':
        await say(`220 ${VERSION}`)
        continue
      case 'THUMBPRINT_SHA2': {
        if (!sha256) await say(PLEASE_LOG_IN)
        else if (argument === '' || /[\s:]/.test(argument)) await say('501 Invalid arguments')
        else {
          word = argument
          const lie = tlsFaults.quirk('wrongSha256') !== undefined
          await say(`200 ${lie ? Array.from({ length: 32 }, () => '5A').join(':') : shown.sha256}`)
        }
        continue
      }
      case 'USER':
        await say(`331 Password required for ${argument}.`)
        continue
      case 'PASS':
        await say('530 Login incorrect')
        continue
      case 'PROXY': {
        const encrypted = argument.endsWith('ssl')
        if (sessionId === undefined) await say(PLEASE_LOG_IN)
        else if (!SERVICES.has(argument)) await say('501 Invalid arguments')
        else if (encrypted && !nfcssl) await say('504 NFCSSL is not supported')
        else {
          const ticket = await redeem(options, sessionId)
          if (typeof ticket === 'string') {
            await say(`530 The ticket is ${ticket}`)
            continue
          }
          await say(`200 Connect ${encrypted ? 'ha-nfcssl' : 'ha-nfc'}`)
          turn.drop()
          return { ticket, encrypted, word, sha256 }
        }
        continue
      }
      default:
        await say(PLEASE_LOG_IN)
    }
  }
}

async function redeem({ model, gone }: DialogueOptions, sessionId: string): Promise<NfcTicket | string> {
  const known = model.nfcTickets.peek(sessionId)
  const vm = known?.vm === undefined ? undefined : model.world.vm(known.vm)
  const who: StepNames = { names: vm === undefined ? [] : model.names(vm), endpoint: known?.through }
  const faults = await stepFaults(model, 'nfc:proxy', who, gone)
  for (const quirk of ['unknown', 'spent', 'expired'] as const) if (faults.quirk(quirk) !== undefined) return quirk
  return model.nfcTickets.redeem(sessionId)
}
