import { createWriteStream, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { dirname } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { VimFault } from '../wire/index.ts'
import type { Endpoint } from './endpoint.ts'
import { lockOf } from './file-lock.ts'
import { directoryOf } from './datastore-path.ts'
import { bodyFaults } from './http-faults.ts'
import { hasPrivilege } from './privilege.ts'
import { sendFile } from './send-file.ts'

/**
 * `/folder/PATH?dcPath=DC&dsName=DS`: GET with ranges, HEAD, PUT, DELETE of datastore files for a logged-in session or a service ticket. A
 * file that a running VM holds answers 500, as hosts were seen to do. True when the path is below `/folder`.
 */
export async function serveFolder(endpoint: Endpoint, request: IncomingMessage, response: ServerResponse): Promise<boolean> {
  const url = request.url ?? ''
  if (!/^\/folder([/?]|$)/.test(url)) return false
  try {
    await answer(endpoint, request, response, url)
  } catch (error) {
    request.resume()
    const status =
      error instanceof VimFault
        ? error.faultType === 'FileNotFound'
          ? 404
          : error.faultType === 'NoDiskSpace'
            ? 507
            : error.faultType === 'InvalidDatastorePath'
              ? 400
              : 500
        : 500
    endpoint.model.log.debug('a datastore request failed', { url, error: String(error) })
    if (response.headersSent) response.destroy()
    else plain(response, status, error instanceof Error ? error.message : 'failed')
  }
  return true
}

const plain = (response: ServerResponse, status: number, text: string, headers: Record<string, string> = {}): void => {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers }).end(`${text}\n`)
}

async function answer(endpoint: Endpoint, request: IncomingMessage, response: ServerResponse, url: string): Promise<void> {
  const { model, view, sessions } = endpoint
  const ticket = endpoint.tickets.map((issuer) => issuer.redeemServiceTicket(request)).find((found) => found !== undefined)
  const login = ticket === undefined ? sessions.authenticate(request) : undefined
  const userName = ticket?.userName ?? login?.session.userName
  if (userName === undefined) {
    request.resume()
    plain(response, 401, 'Log in first.', { 'www-authenticate': 'Basic realm="VMware HTTP server"' })
    return
  }
  if (login?.setCookie !== undefined) response.setHeader('set-cookie', login.setCookie)
  const { path, query } = splitUrl(url)
  if (path === undefined) return refuse(request, response, 400, 'The path leaves the datastore.')
  const dsName = query.get('dsName')
  const store = view.datastores().find((candidate) => candidate.name === dsName || candidate.uuid === dsName)
  if (store === undefined) return refuse(request, response, 404, `There is no datastore ${dsName ?? ''}.`)
  if (!dcMatches(endpoint, store.id, query.get('dcPath'), ticket !== undefined))
    return refuse(request, response, 404, 'The datastore is not in this datacenter.')
  const method = request.method ?? 'GET'
  const privilege = method === 'GET' || method === 'HEAD' ? 'Datastore.Browse' : 'Datastore.FileManagement'
  if (!hasPrivilege(endpoint, userName, privilege)) return refuse(request, response, 403, `The privilege ${privilege} is missing.`)
  if (path === '') return refuse(request, response, 403, 'Directories are listed through the datastore browser.')
  const full = `[${store.name}] ${path}`
  const faults = await bodyFaults(
    model,
    `folder:${method}`,
    [full, path, path.split('/').at(-1) ?? path, store.name, ...ownerNames(endpoint, full)],
    view.kind,
  )
  if (faults.expired) {
    if (login !== undefined) sessions.logout(login.session)
    return refuse(request, response, 401, 'Log in first.')
  }
  if (faults.status !== undefined) return refuse(request, response, faults.status, 'A fault rule of the lab refused this request.')
  const owner = model.world.vmInDirectory(directoryOf(full))
  if (owner !== undefined) await model.ensure(owner)
  const local = model.files.local(full)
  const lock = lockOf(model, full)
  switch (method) {
    case 'GET':
    case 'HEAD': {
      if (lock?.mode === 'exclusive') return refuse(request, response, 500, `${full} is locked by ${lock.holder}.`)
      const found = statSync(local, { throwIfNoEntry: false })
      if (found?.isFile() !== true) return refuse(request, response, 404, `${full} was not found.`)
      const range = faults.refuseRange ? undefined : parseRange(request.headers.range, found.size)
      if (range === 'unsatisfiable')
        return refuse(request, response, 416, 'The range lies outside the file.', { 'content-range': `bytes */${found.size}` })
      const start = range?.start ?? 0
      const end = range?.end ?? found.size - 1
      response.writeHead(range === undefined ? 200 : 206, {
        'content-type': 'application/octet-stream',
        'content-length': String(end - start + 1),
        'last-modified': found.mtime.toUTCString(),
        ...(faults.refuseRange ? {} : { 'accept-ranges': 'bytes' }),
        ...(range === undefined ? {} : { 'content-range': `bytes ${start}-${end}/${found.size}` }),
      })
      if (method === 'HEAD' || end < start) {
        response.end()
        return
      }
      using _download = model.holds.download(full)
      await sendFile(local, { start, end }, response, { memory: model.sendMemory, limit: faults.limits ? faults.limit : undefined })
      return
    }
    case 'PUT':
    case 'POST': {
      if (lock !== undefined) return refuse(request, response, 500, `${full} is locked by ${lock.holder}.`)
      const parent = statSync(dirname(local), { throwIfNoEntry: false })
      if (parent?.isDirectory() !== true) return refuse(request, response, 404, `The directory of ${full} does not exist.`)
      const before = statSync(local, { throwIfNoEntry: false })
      if (before?.isDirectory() === true) return refuse(request, response, 409, `${full} is a directory.`)
      const disks = model.files.store(store.name)
      disks.charge(Number(request.headers['content-length'] ?? 0) - (before?.size ?? 0))
      const wanted = request.headers['content-length']
      let written = 0
      try {
        await pipeline(
          request,
          async function* (source: AsyncIterable<Buffer>) {
            for await (const piece of source) {
              written += piece.length
              yield piece
            }
          },
          createWriteStream(local, { flags: 'w', mode: 0o600 }),
        )
      } catch (error) {
        // An upload that broke off leaves nothing that looks like a file.
        await rm(local, { force: true })
        throw error
      } finally {
        disks.changed()
      }
      if (wanted !== undefined && written !== Number(wanted)) {
        await rm(local, { force: true })
        return refuse(request, response, 400, 'The upload is incomplete.')
      }
      response.writeHead(before === undefined ? 201 : 200, { 'content-length': '0' }).end()
      return
    }
    case 'DELETE': {
      if (lock !== undefined) return refuse(request, response, 500, `${full} is locked by ${lock.holder}.`)
      const found = statSync(local, { throwIfNoEntry: false })
      if (found === undefined) return refuse(request, response, 404, `${full} was not found.`)
      await rm(local, { recursive: true })
      model.files.store(store.name).changed()
      request.resume()
      response.writeHead(204).end()
      return
    }
    default:
      refuse(request, response, 405, `${method} is not served here.`)
  }
}

function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  text: string,
  headers: Record<string, string> = {},
): void {
  request.resume()
  plain(response, status, text, headers)
}

/** Decoded path below `/folder`, without leading slash; undefined when it would leave the datastore. */
export function splitUrl(url: string): { path: string | undefined; query: URLSearchParams } {
  const [head = '', tail = ''] = url.split(/\?(.*)/s)
  const query = new URLSearchParams(tail)
  let decoded: string
  try {
    decoded = head
      .slice('/folder'.length)
      .split('/')
      .map((part) => decodeURIComponent(part))
      .join('/')
  } catch {
    return { path: undefined, query }
  }
  const parts = decoded.split('/').filter((part) => part !== '' && part !== '.')
  return { path: parts.includes('..') || decoded.includes('\0') ? undefined : parts.join('/'), query }
}

function dcMatches(endpoint: Endpoint, store: string, dcPath: string | null, byTicket: boolean): boolean {
  if (endpoint.view.kind === 'esxi' || byTicket)
    return dcPath === null || dcPath === '' || dcPath === 'ha-datacenter' || dcPath === '/ha-datacenter'
  if (dcPath === null) return false
  const dc = endpoint.model.world.datacenterOf(store)
  return dc !== undefined && dcPath.replace(/^\//, '').replaceAll('%2f', '/').replaceAll('%25', '%') === dc.name
}

/** Names of the VM in whose directory a file lies, so that fault rules can name the VM. */
function ownerNames(endpoint: Endpoint, full: string): string[] {
  const vm = endpoint.model.world.vmInDirectory(directoryOf(full))
  return vm === undefined ? [] : endpoint.model.names(vm)
}

/** One byte range; several are answered as none, as hosts do. */
function parseRange(header: string | undefined, size: number): { start: number; end: number } | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '')
  if (match === null || (match[1] === '' && match[2] === '')) return undefined
  if (match[1] === '') {
    const length = Math.min(Number(match[2]), size)
    return length === 0 ? 'unsatisfiable' : { start: size - length, end: size - 1 }
  }
  const start = Number(match[1])
  const end = match[2] === '' ? size - 1 : Math.min(Number(match[2]), size - 1)
  return start >= size || start > end ? 'unsatisfiable' : { start, end }
}
