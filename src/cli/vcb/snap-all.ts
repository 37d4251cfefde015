import { join } from 'node:path'
import { runExport } from '../../agent/index.ts'
import { AgentError, safeFileName, type VmRef } from '../../core/index.ts'
import { findBySpecification, parseSearchSpecification } from '../../inventory/index.ts'
import { exitOf } from '../backup.ts'
import { printable } from '../io.ts'
import { EXPORT_FLAGS, EXPORT_HELP, exportFormat, targetDirectory, transportOf } from './export-flags.ts'
import { LOGIN_FLAGS, usage } from './flags.ts'
import { noteLeftOut } from './note-left-out.ts'
import { LOGIN_HELP, type Tool } from './tool.ts'

/** `vcbSnapAll`: an export of each VM that a specification names. */
export const vcbSnapAll: Tool = {
  name: 'vcbSnapAll',
  flags: { ...LOGIN_FLAGS, ...EXPORT_FLAGS },
  help: `Usage: vcbSnapAll [-h HOST] [-u USER] [-L LEVEL] -a SPECIFICATION -r DIR [-m MODE] [-M 1] [-F 1]

Exports every VM that the specification names into a directory of its own below DIR, as vcbMounter does, "parallel" of vcb.yaml at the same time. The failure of one
does not touch the others. Prints the directory of each VM that was exported.
${EXPORT_HELP}${LOGIN_HELP}`,
  run: async (call) => {
    const { values } = call.flags
    const text = values.get('a')
    if (text === undefined) throw usage('vcbSnapAll', 'vcbSnapAll needs a search specification (-a).')
    const specification = parseSearchSpecification(text, call.settings.lookup)
    const directory = targetDirectory(call, values.get('r'))
    const format = exportFormat(call)
    return call.withAgent(
      async ({ agent, output }) => {
        const vsphere = await agent.vsphere()
        const vms = (await findBySpecification(vsphere, specification, { signal: call.io.signal })).map(({ vm }) => vm)
        if (vms.length === 0)
          throw new AgentError('NOT_FOUND', `${JSON.stringify(text)} matches no VM at ${vsphere.host}.`, {
            subject: text,
            next: 'List the VMs with "vcbVmName -s any:" and name one of those.',
          })
        const names = directoryNames(vms)
        const run = await runExport(agent, { vms, format, name: (config) => names.get(config.vm.moref) ?? safeFileName(config.vm.name) })
        for (const outcome of run.vms) {
          if (!outcome.ok) {
            output.note(`vcb: ${printable(outcome.vm.name)}: ${printable(`${outcome.error.message} ${outcome.error.next}`)}`)
            continue
          }
          noteLeftOut(output, outcome)
          call.io.out(`${printable(join(directory, outcome.point))}\n`)
        }
        return exitOf(run.vms, call.io.signal.aborted)
      },
      { repo: `vcb:${directory}`, transport: transportOf(call), changeTracking: false },
    )
  },
}

/** The VM's name; with its reference where several of them would come out equal. */
function directoryNames(vms: readonly VmRef[]): ReadonlyMap<string, string> {
  const groups = Map.groupBy(vms, ({ name }) => safeFileName(name).toLowerCase())
  return new Map(
    vms.map((vm) => {
      const name = safeFileName(vm.name)
      return [vm.moref, groups.get(name.toLowerCase())?.length === 1 ? name : `${name}-${safeFileName(vm.moref)}`]
    }),
  )
}
