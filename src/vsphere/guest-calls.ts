import { X509Certificate } from 'node:crypto'
import { type Abortable, AgentError, type MoRef, type Secret } from '../core/index.ts'
import { HttpClient } from './http-client.ts'
import { retrieveOne } from './property-collector.ts'
import { data, typed, type VimData } from './vim-data.ts'
import { isFault } from './vim-fault.ts'
import type { VimNode } from './vim-node.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** A guest and who logs in to it; sent with every call. */
export type GuestLogin = { readonly vm: MoRef; readonly user: string; readonly password: Secret }

/** A process in the guest. VMware Tools list an ended one for about five minutes. */
export type GuestProcess = {
  readonly pid: number
  readonly cmdLine: string
  readonly ended: boolean
  readonly exitCode: number | undefined
}

/** Longest silence of a transfer, ms. */
const TRANSFER_MS = 60_000

const authOf = ({ user, password }: GuestLogin): VimData =>
  typed('NamePasswordAuthentication', { interactiveSession: false, username: user, password: password.reveal() })

async function manager(vsphere: Vsphere, name: 'processManager' | 'fileManager', options?: CallOptions): Promise<MoRef> {
  const { props } = await retrieveOne(vsphere, vsphere.service('guestOperationsManager'), [name], options)
  const found = props.get(name)?.asRef()
  if (found !== undefined) return found
  throw new AgentError('UNAVAILABLE', `${vsphere.host} has no guest operations (${name}).`, { subject: vsphere.host, retry: 'never' })
}

/**
 * StartProgramInGuest; the process id. On Linux the guest's shell reads `args`, so they may redirect; on Windows only `cmd /c` does. Not idempotent.
 * AUTH (login refused), GUEST (Tools not ready), NOT_FOUND (no such program).
 */
export async function startProgramInGuest(
  vsphere: Vsphere,
  login: GuestLogin,
  program: { readonly path: string; readonly args: string },
  options?: CallOptions,
): Promise<number> {
  const spec = data({ programPath: program.path, arguments: program.args })
  const processes = await manager(vsphere, 'processManager', options)
  const [pid] = await vsphere.call('StartProgramInGuest', processes, { vm: login.vm, auth: authOf(login), spec }, options)
  if (pid === undefined) throw new AgentError('INTEGRITY', `${vsphere.host} started a program and did not tell its process id.`)
  return pid.asNumber()
}

/** ListProcessesInGuest: all, or those of `pids` that are still listed. */
export async function listProcessesInGuest(
  vsphere: Vsphere,
  login: GuestLogin,
  pids: readonly number[],
  options?: CallOptions,
): Promise<readonly GuestProcess[]> {
  const processes = await manager(vsphere, 'processManager', options)
  const found = await vsphere.call('ListProcessesInGuest', processes, { vm: login.vm, auth: authOf(login), pids }, options)
  return found.map((process) => ({
    pid: process.number('pid') ?? 0,
    cmdLine: process.string('cmdLine') ?? '',
    ended: process.get('endTime') !== undefined,
    exitCode: process.number('exitCode'),
  }))
}

/** Ends a process; one that has ended already is success. */
export async function terminateProcessInGuest(vsphere: Vsphere, login: GuestLogin, pid: number, options?: CallOptions): Promise<void> {
  const processes = await manager(vsphere, 'processManager', options)
  try {
    await vsphere.call('TerminateProcessInGuest', processes, { vm: login.vm, auth: authOf(login), pid }, options)
  } catch (error) {
    if (!isFault(error, 'GuestProcessNotFound')) throw error
  }
}

/** Deletes one file in the guest; one that is not there is success. */
export async function deleteFileInGuest(vsphere: Vsphere, login: GuestLogin, filePath: string, options?: CallOptions): Promise<void> {
  const files = await manager(vsphere, 'fileManager', options)
  try {
    await vsphere.call('DeleteFileInGuest', files, { vm: login.vm, auth: authOf(login), filePath }, options)
  } catch (error) {
    if (!isFault(error, 'FileNotFound')) throw error
  }
}

/** Size of a file in the guest, bytes; undefined when it is not there. Reads nothing of it. */
export async function sizeOfGuestFile(
  vsphere: Vsphere,
  login: GuestLogin,
  path: string,
  options?: CallOptions,
): Promise<number | undefined> {
  return (await transferFrom(vsphere, login, path, options))?.number('size')
}

/**
 * The beginning of a file in the guest, at most `most` bytes, and how long it is; undefined when it is not there. The address usually is an ESXi
 * host's, trusted by the certificate that vCenter knows of the VM's host, or by a CA. AUTH, UNAVAILABLE.
 */
export async function readGuestFile(
  vsphere: Vsphere,
  login: GuestLogin,
  path: string,
  most: number,
  options?: CallOptions,
): Promise<{ readonly bytes: Uint8Array; readonly size: number } | undefined> {
  const transfer = await transferFrom(vsphere, login, path, options)
  if (transfer === undefined) return undefined
  const size = transfer.number('size') ?? 0
  const { http } = vsphere
  const url = URL.parse((transfer.string('url') ?? '').replace(/^https:\/\/\*(:\d+)?(?=\/)/, http.endpoint.origin))
  if (url?.protocol !== 'https:') throw new AgentError('INTEGRITY', `${vsphere.host} named no usable address for a file in the guest.`)
  const origin = `https://${url.hostname}:${url.port === '' ? 443 : url.port}`
  const ask = { path: `${url.pathname}${url.search}`, size, most }
  if (origin === http.endpoint.origin) return { size, bytes: await fetchBeginning(http.client, ask, options) }
  await using client = new HttpClient(origin, { pin: await hostPin(vsphere, login.vm, options), ca: http.trust.ca }, 1)
  return { size, bytes: await fetchBeginning(client, ask, options) }
}

async function fetchBeginning(
  client: HttpClient,
  ask: { readonly path: string; readonly size: number; readonly most: number },
  options?: Abortable,
): Promise<Uint8Array> {
  const answer = await client.send({ method: 'GET', path: ask.path, headers: {}, timeoutMs: TRANSFER_MS }, options)
  const pieces: Buffer[] = []
  let length = 0
  try {
    if (answer.status !== 200)
      throw new AgentError('UNAVAILABLE', `${client.host} refused a file of the guest with HTTP status ${answer.status}.`, {
        retry: 'later',
      })
    for await (const piece of answer.body as AsyncIterable<Buffer>) {
      pieces.push(piece.subarray(0, ask.most - length))
      length += Math.min(piece.length, ask.most - length)
      if (length === ask.most) break
    }
  } finally {
    answer.body.destroy()
  }
  if (length < Math.min(ask.size, ask.most))
    throw new AgentError('UNAVAILABLE', `${client.host} sent ${length} of ${ask.size} bytes of a file in the guest.`, { retry: 'now' })
  return Buffer.concat(pieces)
}

async function transferFrom(
  vsphere: Vsphere,
  login: GuestLogin,
  guestFilePath: string,
  options?: CallOptions,
): Promise<VimNode | undefined> {
  const files = await manager(vsphere, 'fileManager', options)
  try {
    const [found] = await vsphere.call(
      'InitiateFileTransferFromGuest',
      files,
      { vm: login.vm, auth: authOf(login), guestFilePath },
      options,
    )
    return found
  } catch (error) {
    if (isFault(error, 'FileNotFound')) return undefined
    throw error
  }
}

/** SHA-256 of the certificate that vCenter knows of the host a VM runs on, hex; undefined when it does not show it, then a CA must do. */
async function hostPin(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<string | undefined> {
  const host = (await retrieveOne(vsphere, vm, ['runtime.host'], options)).props.get('runtime.host')?.asRef()
  if (host === undefined) return undefined
  const shown = (await retrieveOne(vsphere, host, ['config.certificate'], options)).props.get('config.certificate')
  if (shown === undefined) return undefined
  // byte[]: signed numbers, one element each.
  const bytes =
    shown.children.length > 0 ? Buffer.from(shown.items().map((byte) => byte.asNumber() & 255)) : Buffer.from(shown.text, 'base64')
  try {
    return new X509Certificate(bytes).fingerprint256.replaceAll(':', '').toLowerCase()
  } catch {
    // Unreadable is as if it were not shown: a CA must vouch for the host then.
    return undefined
  }
}
