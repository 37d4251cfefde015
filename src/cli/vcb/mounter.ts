import { exportPlace, runExport, runRemoveExport } from '../../agent/index.ts'
import { AgentError } from '../../core/index.ts'
import { findOneBySpecification, parseSearchSpecification } from '../../inventory/index.ts'
import { exitOf } from '../backup.ts'
import { printable } from '../io.ts'
import { EXPORT_FLAGS, EXPORT_HELP, exportFormat, targetDirectory, transportOf } from './export-flags.ts'
import { LOGIN_FLAGS, usage } from './flags.ts'
import { noteLeftOut } from './note-left-out.ts'
import { LOGIN_HELP, type Tool, type ToolCall } from './tool.ts'

/** `vcbMounter`: one VM into a directory as files, and that directory away again. */
export const vcbMounter: Tool = {
  name: 'vcbMounter',
  flags: { ...LOGIN_FLAGS, ...EXPORT_FLAGS, t: 'value', U: 'switch' },
  help: `Usage: vcbMounter [-h HOST] [-u USER] [-L LEVEL] -a SPECIFICATION -r DIR [-t fullvm] [-m MODE] [-M 1] [-F 1]
       vcbMounter -U -r DIR

Exports a VM into DIR, which is made: VMX, NVRAM, a descriptor and the data of each disk, and a catalog for vcbRestore. The snapshot is gone when it returns; the
files stay until -U removes them. -U for a directory that is not there is success.
${EXPORT_HELP}${LOGIN_HELP}`,
  run: (call) => (call.flags.values.has('U') ? unmount(call) : mount(call)),
}

async function mount(call: ToolCall): Promise<number> {
  const { values } = call.flags
  const type = (values.get('t') ?? 'fullvm').toLowerCase()
  if (type !== 'fullvm') throw usage('vcbMounter', `${JSON.stringify(type)} is no type of vcbMounter that is here: fullvm is.`)
  const text = values.get('a')
  if (text === undefined) throw usage('vcbMounter', 'vcbMounter needs a search specification (-a).')
  const specification = parseSearchSpecification(text, call.settings.lookup)
  const directory = targetDirectory(call, values.get('r'))
  const { url, point } = exportPlace(directory)
  const format = exportFormat(call)
  return call.withAgent(
    async ({ agent, output }) => {
      const vm = await findOneBySpecification(await agent.vsphere(), text, specification, { signal: call.io.signal })
      const { vms } = await runExport(agent, { vms: [vm], format, name: () => point })
      const [outcome] = vms
      if (outcome?.ok !== true) throw outcome?.error ?? new AgentError('INTERNAL', `Nothing was exported of ${vm.name}.`)
      noteLeftOut(output, outcome)
      if (!values.has('Q')) output.note(`${printable(vm.name)} is exported to ${printable(directory)}, ${outcome.consistency}-consistent`)
      return exitOf(vms, call.io.signal.aborted)
    },
    { repo: url, transport: transportOf(call), changeTracking: false },
  )
}

async function unmount(call: ToolCall): Promise<number> {
  const directory = targetDirectory(call, call.flags.values.get('r'))
  return call.withAgent(
    async ({ agent, output }) => {
      const removed = await runRemoveExport(agent, directory)
      if (!call.flags.values.has('Q')) output.note(removed ? `${printable(directory)} is removed` : `There is no ${printable(directory)}`)
      return 0
    },
    { repo: exportPlace(directory).url },
  )
}
