import { readdir } from 'node:fs/promises'
import { exportPlace, runExport, runRemoveExport, runUnmountDirectory } from '../../agent/index.ts'
import { AgentError, fromErrno, isMissing } from '../../core/index.ts'
import { findOneBySpecification, parseSearchSpecification } from '../../inventory/index.ts'
import { exitOf } from '../backup.ts'
import { printable } from '../io.ts'
import { EXPORT_FLAGS, EXPORT_HELP, exportFormat, mountType, targetDirectory, transportOf } from './export-flags.ts'
import { mountFiles, reportMounted, unmountFiles } from './file-mount.ts'
import { LOGIN_FLAGS, usage } from './flags.ts'
import { noteLeftOut } from './note-left-out.ts'
import { LOGIN_HELP, type Tool, type ToolCall } from './tool.ts'

/** `vcbMounter`: one VM into a directory as files, or the files in it, and that directory away again. */
export const vcbMounter: Tool = {
  name: 'vcbMounter',
  flags: { ...LOGIN_FLAGS, ...EXPORT_FLAGS, U: 'switch' },
  help: `Usage: vcbMounter [-h HOST] [-u USER] [-L LEVEL] -a SPECIFICATION -r DIR [-t fullvm] [-m MODE] [-M 1] [-F 1]
       vcbMounter [-h HOST] [-u USER] [-L LEVEL] -a SPECIFICATION -r DIR -t file [-m MODE]
       vcbMounter -U -r DIR

  -t fullvm  exports the VM into DIR, which is made: VMX, NVRAM, a descriptor and the data of each disk, and a catalog for vcbRestore. The snapshot is gone when it
             returns; the files stay until -U removes them
  -t file    mounts the VM's file systems read-only: DIR/letters/C, DIR/digits/1, and DIR/root for a Linux guest. The snapshot stays until -U unmounts them, until
             the process VCB_OWNER_PID has ended, after "vcbTools.idle" without a read (30m), or after "vcbTools.maxHold" (12h). Needs root
  -U         removes the export, or unmounts. For a directory that is not there it is success
${EXPORT_HELP}${LOGIN_HELP}`,
  examples: [
    'vcbMounter -h vc.example.com -u backup -a name:web01 -r /export/web01 -t fullvm -m san -M 1 -F 1',
    'vcbMounter -h vc.example.com -u backup -a moref:vm-57 -r /mnt/web01 -t file -m nbdssl',
    'VCB_OWNER_PID=$$ vcbMounter -a ipaddr:10.0.0.11 -r /mnt/web01 -t file',
    'vcbMounter -U -r /mnt/web01',
  ],
  exits: {
    5: 'no such VM',
    6: 'DIR is not empty, or another job has the VM',
    9: 'with -U: a reader got an error, or the mount had ended before; do not trust the copy',
    12: 'a disk or a file system is missing',
  },
  run: (call) => (call.flags.values.has('U') ? unmount(call) : mount(call)),
}

async function mount(call: ToolCall): Promise<number> {
  const { values } = call.flags
  const text = values.get('a')
  if (text === undefined) throw usage('vcbMounter', 'vcbMounter needs a search specification (-a).')
  const specification = parseSearchSpecification(text, call.settings.lookup)
  const directory = targetDirectory(call, values.get('r'))
  const format = exportFormat(call)
  if (call.settings.replacesExisting) await removeExisting(call, directory)
  if (mountType(call) === 'file') {
    const vm = await call.withAgent(async ({ agent }) =>
      findOneBySpecification(await agent.vsphere(), text, specification, { signal: call.io.signal }),
    )
    return reportMounted(call, await mountFiles(call, `moref:${vm.moref}`, directory))
  }
  const { url, point } = exportPlace(directory)
  return call.withAgent(
    async ({ agent, output }) => {
      const vm = await findOneBySpecification(await agent.vsphere(), text, specification, { signal: call.io.signal })
      const { vms } = await runExport(agent, { vms: [vm], format, name: () => point })
      const [outcome] = vms
      if (outcome?.ok !== true) throw outcome?.error ?? new AgentError('INTERNAL', `Nothing was exported of ${vm.name}.`)
      noteLeftOut(output, outcome, values.has('Q'))
      if (!values.has('Q')) output.note(`${printable(vm.name)} is exported to ${printable(directory)}, ${outcome.consistency}-consistent`)
      return exitOf(vms, call.io.signal.aborted)
    },
    { repo: url, transport: transportOf(call), changeTracking: false },
  )
}

/** What an earlier run left in the directory goes, if it is one of ours; an empty directory can stay. CONFLICT for anything else. */
async function removeExisting(call: ToolCall, directory: string): Promise<void> {
  await call.withAgent(
    async ({ agent }) => {
      if ((await runUnmountDirectory(agent, directory)) === undefined && !(await isEmpty(directory)))
        await runRemoveExport(agent, directory)
    },
    { repo: exportPlace(directory).url },
  )
}

/** True for a directory that is not there, too. */
async function isEmpty(directory: string): Promise<boolean> {
  try {
    return (await readdir(directory)).length === 0
  } catch (error) {
    if (isMissing(error)) return true
    throw fromErrno(error, directory) ?? error
  }
}

async function unmount(call: ToolCall): Promise<number> {
  const { values, rest } = call.flags
  // Written as `-U DIR` too.
  const directory = values.has('r') ? targetDirectory(call, values.get('r')) : targetDirectory(call, rest[0], rest.slice(1))
  return call.withAgent(
    async (session) => {
      const unmounted = await unmountFiles(call, session, directory)
      if (unmounted !== undefined) return unmounted
      const removed = await runRemoveExport(session.agent, directory)
      if (!values.has('Q')) session.output.note(removed ? `${printable(directory)} is removed` : `There is no ${printable(directory)}`)
      return 0
    },
    { repo: exportPlace(directory).url },
  )
}
