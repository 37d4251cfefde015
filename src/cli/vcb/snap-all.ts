import { basename, join } from 'node:path'
import { runExport } from '../../agent/index.ts'
import { AgentError, safeFileName, throwIfAborted, toAgentError, type VmRef } from '../../core/index.ts'
import { findBySpecification, parseSearchSpecification } from '../../inventory/index.ts'
import { exitOf } from '../backup.ts'
import { printable } from '../io.ts'
import { EXPORT_FLAGS, EXPORT_HELP, exportFormat, mountType, targetDirectory, transportOf } from './export-flags.ts'
import { mountFiles, reportMounted } from './file-mount.ts'
import { LOGIN_FLAGS, usage } from './flags.ts'
import { noteLeftOut } from './note-left-out.ts'
import { LOGIN_HELP, type Tool, type ToolCall } from './tool.ts'

/** `vcbSnapAll`: an export, or a mount, of each VM that a specification names. */
export const vcbSnapAll: Tool = {
  name: 'vcbSnapAll',
  flags: { ...LOGIN_FLAGS, ...EXPORT_FLAGS },
  help: `Usage: vcbSnapAll [-h HOST] [-u USER] [-L LEVEL] -a SPECIFICATION -r DIR [-t fullvm|file] [-m MODE] [-M 1] [-F 1]

Exports every VM that the specification names into a directory of its own below DIR, or with -t file mounts its file systems there, as vcbMounter does, "parallel" of
vcb.yaml at the same time. The failure of one does not touch the others. Prints the directory of each VM that is there; "vcbMounter -U -r DIR/VM" takes one away again.
${EXPORT_HELP}${LOGIN_HELP}`,
  examples: [
    'vcbSnapAll -h vc.example.com -u backup -a powerstate:on -r /export -M 1',
    'vcbSnapAll -h vc.example.com -u backup -a any: -r /mnt/vms -t file',
  ],
  exits: {
    5: 'no VM fits',
    12: 'some VMs failed, or a disk or a file system is missing',
  },
  run: async (call) => {
    const { values } = call.flags
    const text = values.get('a')
    if (text === undefined) throw usage('vcbSnapAll', 'vcbSnapAll needs a search specification (-a).')
    const specification = parseSearchSpecification(text, call.settings.lookup)
    const directory = targetDirectory(call, values.get('r'))
    const format = exportFormat(call)
    const type = mountType(call)
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
        const nameOf = (vm: VmRef): string => names.get(vm.moref) ?? safeFileName(vm.name)
        const failed = (vm: VmRef, error: AgentError): void =>
          output.note(`vcb: ${printable(vm.name)}: ${printable(`${error.message} ${error.next}`)}`)
        const there = (name: string): void => call.io.out(`${printable(join(directory, name))}\n`)
        if (type === 'file') return mountAll(call, vms, agent.config.parallel, { at: (vm) => join(directory, nameOf(vm)), failed, there })
        const run = await runExport(agent, { vms, format, name: (config) => nameOf(config.vm) })
        for (const outcome of run.vms) {
          if (!outcome.ok) {
            failed(outcome.vm, outcome.error)
            continue
          }
          noteLeftOut(output, outcome, values.has('Q'))
          there(outcome.point)
        }
        return exitOf(run.vms, call.io.signal.aborted)
      },
      { repo: `vcb:${directory}`, transport: transportOf(call), changeTracking: false },
    )
  },
}

/** Mounts each VM in a directory of its own, some at the same time. */
async function mountAll(
  call: ToolCall,
  vms: readonly VmRef[],
  most: number,
  tell: {
    readonly at: (vm: VmRef) => string
    readonly failed: (vm: VmRef, error: AgentError) => void
    readonly there: (name: string) => void
  },
): Promise<number> {
  const waiting = [...vms]
  const ended: Parameters<typeof exitOf>[0][number][] = []
  const lane = async (): Promise<void> => {
    for (let vm = waiting.shift(); vm !== undefined; vm = waiting.shift()) {
      try {
        throwIfAborted(call.io)
        const mounted = await mountFiles(call, `moref:${vm.moref}`, tell.at(vm))
        reportMounted(call, mounted)
        tell.there(basename(mounted.directory))
        ended.push({ ok: true, notProtected: mounted.notMounted.map(({ what, reason }) => ({ disk: what, reason })) })
      } catch (error) {
        const shown = toAgentError(error)
        tell.failed(vm, shown)
        ended.push({ ok: false, error: shown })
      }
    }
  }
  await Promise.all(Array.from({ length: most }, lane))
  return exitOf(ended, call.io.signal.aborted)
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
