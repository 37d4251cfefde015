import type { GuestProcess, GuestSystem } from '../../guest/index.ts'
import { type LabObject, type LabRef, labRef, type MethodCall, type Methods, VimFault } from '../../wire/index.ts'
import { flag, needNumber, needObject, needReference, needText, number, text } from '../arguments.ts'
import { type Endpoint, vmOf } from '../endpoint.ts'
import { fileAlreadyExists, fileNotFound, invalidPowerState, noDiskSpace, notSupported } from '../faults.ts'
import type { GuestFilesHttp } from '../guest-files-http.ts'
import type { View } from '../view.ts'

/** The managers behind GuestOperationsManager, by its properties. */
export function guestManagerRefs(view: View): Readonly<Record<'authManager' | 'fileManager' | 'processManager', LabRef>> {
  const id = (name: string): string => (view.kind === 'vcenter' ? `guestOperations${name}` : `ha-guest-operations-${name.toLowerCase()}`)
  return {
    authManager: labRef('GuestAuthManager', id('AuthManager')),
    fileManager: labRef('GuestFileManager', id('FileManager')),
    processManager: labRef('GuestProcessManager', id('ProcessManager')),
  }
}

/** Programs and files in guests. Every call logs in to the guest anew; VMware Tools must run there. */
export function guestMethods(endpoint: Endpoint, files: GuestFilesHttp): Methods {
  const { model } = endpoint

  const inGuest = async (call: MethodCall): Promise<{ readonly system: GuestSystem; readonly user: string; readonly vm: string }> => {
    const vm = vmOf(endpoint, needReference(call.args, 'vm'))
    if (vm.power !== 'poweredOn') throw invalidPowerState('poweredOn', vm.power)
    if (vm.tools !== 'running') throw new VimFault('GuestOperationsUnavailable', {}, 'The guest operations agent could not be contacted.')
    const auth = needObject(call.args, 'auth')
    if (auth.$type !== 'NamePasswordAuthentication' || flag(auth, 'interactiveSession') === true) throw notSupported()
    const { system } = await model.machine(vm)
    const user = needText(auth, 'username')
    if (!system.accepts(user, needText(auth, 'password')))
      throw new VimFault('InvalidGuestLogin', {}, 'Failed to authenticate with the guest operating system using the supplied credentials.')
    return { system, user, vm: vm.id }
  }

  return {
    GuestAuthManager: {
      ValidateCredentialsInGuest: async (call) => {
        await inGuest(call)
      },
    },
    GuestProcessManager: {
      StartProgramInGuest: async (call) => {
        const { system, user } = await inGuest(call)
        const spec = needObject(call.args, 'spec')
        const path = needText(spec, 'programPath')
        const pid = system.start(user, path, text(spec, 'arguments') ?? '')
        if (pid === undefined) throw fileNotFound(path)
        return pid
      },
      ListProcessesInGuest: async (call) => {
        const { system } = await inGuest(call)
        const asked = call.args['pids']
        const pids = asked === undefined ? undefined : (Array.isArray(asked) ? asked : [asked]).map(Number)
        return system
          .list()
          .filter((process) => pids === undefined || pids.length === 0 || pids.includes(process.pid))
          .map(processInfo)
      },
      TerminateProcessInGuest: async (call) => {
        const { system } = await inGuest(call)
        const pid = needNumber(call.args, 'pid')
        if (!system.terminate(pid)) throw new VimFault('GuestProcessNotFound', { pid }, `The process ${pid} was not found in the guest.`)
      },
    },
    GuestFileManager: {
      ListFilesInGuest: async (call) => {
        const { system } = await inGuest(call)
        const path = needText(call.args, 'filePath')
        const found = system.files(path)
        if (found.length === 0) throw fileNotFound(path)
        const from = number(call.args, 'index') ?? 0
        const shown = found.slice(from, from + (number(call.args, 'maxResults') ?? 50))
        return {
          $type: 'GuestListFileInfo',
          files: shown.map((name) => ({
            $type: 'GuestFileInfo',
            path: name,
            type: 'file',
            size: system.read(name)?.length ?? 0,
            attributes: { $type: attributesOf(system) },
          })),
          remaining: found.length - from - shown.length,
        }
      },
      DeleteFileInGuest: async (call) => {
        const { system } = await inGuest(call)
        const path = needText(call.args, 'filePath')
        if (!system.delete(path)) throw fileNotFound(path)
      },
      InitiateFileTransferFromGuest: async (call) => {
        const { system, vm } = await inGuest(call)
        const path = needText(call.args, 'guestFilePath')
        const body = system.read(path)
        if (body === undefined) throw fileNotFound(path)
        return {
          $type: 'FileTransferInformation',
          attributes: { $type: attributesOf(system) },
          size: body.length,
          url: files.urlOf({ vm, path, direction: 'from', size: body.length }),
        }
      },
      InitiateFileTransferToGuest: async (call) => {
        const { system, vm } = await inGuest(call)
        const path = needText(call.args, 'guestFilePath')
        if (flag(call.args, 'overwrite') !== true && system.read(path) !== undefined) throw fileAlreadyExists(path)
        const size = needNumber(call.args, 'fileSize')
        if (size > 16 * 1024 * 1024) throw noDiskSpace(path, 'the guest')
        return files.urlOf({ vm, path, direction: 'to', size })
      },
    },
  }
}

const attributesOf = (system: GuestSystem): string =>
  system.family === 'windows' ? 'GuestWindowsFileAttributes' : 'GuestPosixFileAttributes'

const processInfo = (process: GuestProcess): LabObject => ({
  $type: 'GuestProcessInfo',
  name: process.name,
  pid: process.pid,
  owner: process.owner,
  cmdLine: process.cmdLine,
  startTime: process.startedAt,
  endTime: process.endedAt,
  exitCode: process.exitCode,
})
