import type { ServerResponse } from 'node:http'
import type { LabKind } from '../wire/index.ts'
import type { FaultRule } from './fault-rules.ts'
import type { Model } from './model.ts'

/** What fault rules do to one plain HTTP request. */
export type HttpFaults = {
  /** The caller's session is over: it is to be ended, and the answer is 401. */
  readonly expired: boolean
  /** Answer with this status and nothing else. */
  readonly status: number | undefined
  /** Treat a Range request as if there were no ranges. */
  readonly refuseRange: boolean
  /** Bytes after which the body ends early but cleanly, with a Content-Length that promised more. */
  readonly cutAt: number | undefined
  /** Some rule ends the body early. */
  readonly limits: boolean
  /** Passes a body through, ending it where a rule says so. */
  readonly limit: (body: AsyncIterable<Uint8Array>, response: ServerResponse) => AsyncGenerator<Uint8Array>
}

const EFFECTS = [
  'delayMs',
  'cut',
  'expireSession',
  'status',
  'cutAfterBytes',
  'shortAfterBytes',
  'refuseRange',
  'lockHeld',
] as const satisfies readonly (keyof FaultRule)[]

/** Asks the rules about one request; delays here. A rule without `on` strikes SOAP calls only, unless its effect is one of HTTP bodies. */
export async function bodyFaults(model: Model, on: string, names: readonly string[], endpoint: LabKind): Promise<HttpFaults> {
  const rules = model.rules.strike({ on, names, endpoint }, ...EFFECTS)
  for (const rule of rules) if (rule.on !== undefined && rule.delayMs !== undefined) await model.clock.sleep(rule.delayMs)
  const cut = rules.find((rule) => rule.on !== undefined && rule.cut !== undefined) === undefined ? undefined : 0
  const hard = rules.find((rule) => rule.cutAfterBytes !== undefined)?.cutAfterBytes ?? cut
  const short = rules.find((rule) => rule.shortAfterBytes !== undefined)?.shortAfterBytes
  const locked = rules.some((rule) => rule.lockHeld === true) ? 500 : undefined
  return {
    expired: rules.some((rule) => rule.on !== undefined && rule.expireSession === true),
    status: rules.find((rule) => rule.status !== undefined)?.status ?? locked,
    refuseRange: rules.some((rule) => rule.refuseRange === true),
    cutAt: short,
    limits: hard !== undefined || short !== undefined,
    limit: async function* (body, response) {
      const end = Math.min(hard ?? Number.POSITIVE_INFINITY, short ?? Number.POSITIVE_INFINITY)
      let sent = 0
      for await (const piece of body) {
        if (sent + piece.length > end || (end === 0 && sent === 0)) {
          const rest = piece.subarray(0, Math.max(0, end - sent))
          if (rest.length > 0) {
            yield rest
            // What was handed over must reach the wire before the connection goes.
            await new Promise<void>((resolve) => setImmediate(resolve))
          }
          if (hard !== undefined && end === hard) response.destroy()
          else response.socket?.end()
          return
        }
        yield piece
        sent += piece.length
      }
    },
  }
}
