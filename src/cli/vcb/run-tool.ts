import { AgentError } from '../../core/index.ts'
import { type CliIo, reportError } from '../io.ts'
import { withAgent } from '../session.ts'
import { parseToolFlags } from './flags.ts'
import { vcbCleanup } from './cleanup.ts'
import { mountvm } from './mount-vm.ts'
import { vcbMounter } from './mounter.ts'
import { vcbRestore } from './restore.ts'
import { readToolSettings } from './settings.ts'
import { vcbSnapAll } from './snap-all.ts'
import { vcbSnapshot } from './snapshot.ts'
import { helpOf, type Tool } from './tool.ts'
import { vcbUtil } from './util.ts'
import { vcbVmName } from './vm-name.ts'

/** Every VCB command there is. */
export const TOOLS: readonly Tool[] = [vcbVmName, vcbMounter, vcbSnapAll, vcbSnapshot, vcbRestore, vcbUtil, mountvm, vcbCleanup]

/** Runs one command line of a VCB command; its exit status, as those of `vcb` (docs/errors.md). */
export async function runTool(name: string, argv: readonly string[], io: CliIo): Promise<number> {
  try {
    const tool = TOOLS.find((one) => one.name === name)
    if (tool === undefined)
      throw new AgentError('USAGE', `There is no command ${name}.`, { next: `There is ${TOOLS.map((one) => one.name).join(', ')}.` })
    if (argv.length === 0 || argv.includes('--help')) {
      io.out(helpOf(tool))
      return argv.length === 0 ? new AgentError('USAGE', '').exit : 0
    }
    const flags = parseToolFlags(name, tool.flags, argv)
    const settings = await readToolSettings(name, flags, io)
    const toolIo = { ...io, environment: settings.environment }
    return await tool.run({
      tool,
      io: toolIo,
      flags,
      settings,
      withAgent: (body, more = {}) => withAgent(toolIo, { ...settings.flags, ...more }, body),
    })
  } catch (error) {
    return reportError(io, error, false)
  }
}
