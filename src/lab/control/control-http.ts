import { timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { toAgentError } from '../../core/index.ts'
import type { FaultRule } from '../model/index.ts'
import type { LabControl, WriteRequest } from './lab.ts'

/** One request of `vcb lab …` to the running lab: POST `/lab/VERB` with the control token, arguments and answer in JSON. */
export type ControlRequest = {
  readonly vm?: string | undefined
  readonly write?: WriteRequest | undefined
  readonly disk?: number | undefined
  readonly snapshot?: string | undefined
  readonly rule?: FaultRule | undefined
  readonly id?: string | undefined
  readonly rate?: number | undefined
  readonly datastore?: string | undefined
  readonly bytes?: number | undefined
}

const MAX_BODY = 1_048_576

/** Serves `/lab/VERB`; true when the path is one. A wrong token answers 403 and tells nothing. */
export async function serveControl(
  control: LabControl,
  token: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<boolean> {
  const verb = /^\/lab\/([a-z0-9-]+)$/.exec(request.url ?? '')?.[1]
  if (verb === undefined) return false
  const given = Buffer.from((request.headers.authorization ?? '').replace(/^Bearer /, ''))
  const wanted = Buffer.from(token)
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) {
    request.resume()
    response.writeHead(403).end()
    return true
  }
  try {
    const body = JSON.stringify((await act(control, verb, await readJson(request))) ?? null)
    response.writeHead(200, { 'content-type': 'application/json' }).end(body)
  } catch (error) {
    const { code, message, next } = toAgentError(error)
    response.writeHead(code === 'INTERNAL' ? 500 : 400, { 'content-type': 'application/json' }).end(JSON.stringify({ code, message, next }))
  }
  return true
}

async function act(control: LabControl, verb: string, body: ControlRequest): Promise<unknown> {
  const vm = body.vm ?? ''
  switch (verb) {
    case 'state':
      return control.state()
    case 'write':
      return control.write(vm, body.write)
    case 'sha256':
      return control.sha256(vm, { disk: body.disk, snapshot: body.snapshot })
    case 'digests':
      return control.digestsAtSnapshot(vm)
    case 'fsck':
      return control.fsck(vm, { snapshot: body.snapshot })
    case 'workload':
      return control.workload(vm, body.rate ?? 0)
    case 'capacity':
      return control.capacity(body.datastore ?? '', body.bytes ?? 0)
    case 'fault-add':
      return control.fault(body.rule ?? {})
    case 'fault-list':
      return control.faults()
    case 'fault-clear':
      return control.clearFaults(body.id)
    case 'guest-history':
      return control.guestHistory(vm)
    case 'guest-files':
      return control.guestFiles(vm)
    case 'capabilities':
      return control.capabilities()
    default:
      throw new Error(`The lab has no control verb ${verb}.`)
  }
}

async function readJson(request: IncomingMessage): Promise<ControlRequest> {
  const pieces: Buffer[] = []
  let size = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    size += piece.length
    if (size > MAX_BODY) throw new Error('The request is too large.')
    pieces.push(piece)
  }
  const value: unknown = size === 0 ? {} : JSON.parse(Buffer.concat(pieces).toString('utf8'))
  return typeof value === 'object' && value !== null ? value : {}
}
