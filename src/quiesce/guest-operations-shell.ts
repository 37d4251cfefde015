import { type Abortable, AgentError, toAgentError } from '../core/index.ts'
import {
  deleteFileInGuest,
  faultOf,
  type GuestLogin,
  isFault,
  listProcessesInGuest,
  readGuestFile,
  sizeOfGuestFile,
  startProgramInGuest,
  terminateProcessInGuest,
  type Vsphere,
} from '../vsphere/index.ts'
import type { GuestShell, ScriptCommand, ScriptEnd } from './guest-shell.ts'

const FIRST_POLL_MS = 100
const LONGEST_POLL_MS = 2_000

/** Scripts through VMware Tools' guest operations: no network to the guest, a login that vCenter hands on. Linux and Windows. */
export function guestOperationsShell(vsphere: Vsphere, login: GuestLogin, windows: boolean, subject: string): GuestShell {
  const { clock } = vsphere
  const call = (options?: Abortable) => ({ signal: options?.signal, subject })

  /** Until it has ended or its time is over; then it is ended, whatever was aborted. */
  const ended = async (pid: number, options: Abortable & { readonly limitMs: number }): Promise<ScriptEnd> => {
    const until = clock.monotonicMs() + options.limitMs
    try {
      for (let pause = FIRST_POLL_MS; ; pause = Math.min(LONGEST_POLL_MS, pause * 2)) {
        const [process] = await listProcessesInGuest(vsphere, login, [pid], call(options))
        // Not listed any more: it ended while nobody could ask.
        if (process === undefined || process.ended) return { exitCode: process?.exitCode, timedOut: false }
        const left = until - clock.monotonicMs()
        if (left <= 0) break
        await clock.sleep(Math.min(pause, left), options)
      }
    } catch (error) {
      // A connection that is away is found again; only an abort must not leave it running.
      if (options.signal?.aborted === true) await terminateProcessInGuest(vsphere, login, pid, { subject })
      throw error
    }
    await terminateProcessInGuest(vsphere, login, pid, call(options))
    return { exitCode: undefined, timedOut: true }
  }

  return {
    directory: windows ? 'C:\\Windows\\Temp' : '/var/tmp',
    async run(command, options) {
      let pid: number
      try {
        pid = await startProgramInGuest(vsphere, login, programOf(command, windows), call(options))
      } catch (error) {
        // Only a fault says that it was refused; an answer that was lost leaves it in doubt.
        if (faultOf(error) === undefined) options.onStart?.()
        if (!isFault(error, 'FileNotFound')) throw error
        throw new AgentError('GUEST', `${command.path} does not exist in the guest of ${subject}.`, { subject, cause: toAgentError(error) })
      }
      options.onStart?.()
      return ended(pid, options)
    },
    async wait({ out }, options) {
      const running = (await listProcessesInGuest(vsphere, login, [], call(options))).find(({ cmdLine }) => cmdLine.includes(out))
      return running === undefined ? { exitCode: undefined, timedOut: false } : ended(running.pid, options)
    },
    exists: async (path, options) => (await sizeOfGuestFile(vsphere, login, path, call(options))) !== undefined,
    read: (path, most, options) => readGuestFile(vsphere, login, path, most, call(options)),
    remove: (path, options) => deleteFileInGuest(vsphere, login, path, call(options)),
  }
}

/** Linux: the arguments go through the guest's shell. Windows: cmd.exe takes off the outermost quotes and keeps the rest. */
export function programOf({ path, argument, out, err }: ScriptCommand, windows: boolean): { readonly path: string; readonly args: string } {
  if (windows) {
    for (const text of [path, out, err])
      if (/["%\r\n]/.test(text))
        throw new AgentError('CONFIG', `The path ${JSON.stringify(text)} cannot be written into a command of Windows.`)
    return { path: 'C:\\Windows\\System32\\cmd.exe', args: `/d /s /c ""${path}" ${argument} > "${out}" 2> "${err}""` }
  }
  const word = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`
  return { path, args: `${argument} > ${word(out)} 2> ${word(err)}` }
}
