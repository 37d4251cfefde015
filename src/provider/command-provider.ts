import { AgentError, type PointId, type Verdict } from '../core/index.ts'
import { type CommandDeps, commandOutput } from './command-output.ts'
import { PointNames, pointName } from './point-names.ts'
import type { BackupProvider, BackupWriter, PointRequest } from './provider.ts'
import { TarWriter } from './tar-writer.ts'

const NO_PARENT = 'a program that takes a stream has no parent beside it to build an incremental on'

/**
 * Any program that reads one tar archive of the point from its standard input. `command` is its path and arguments, separated by spaces, without a
 * shell and without quotes: what needs more belongs into a script. It is started anew for each point, with `VCB_VM`, `VCB_POINT` and `VCB_RUN` in
 * `environment`, from which no other `VCB_` variable (they may be secrets) is passed on. CONFIG when `command` is empty.
 */
export function openCommandProvider(command: string, environment: Readonly<NodeJS.ProcessEnv>, deps: CommandDeps): BackupProvider {
  const argv = command.split(' ').filter((word) => word !== '')
  if (argv.length === 0) throw new AgentError('CONFIG', 'The repository "command:" names no program.', { subject: 'command:' })
  return new CommandProvider(argv, environment, deps)
}

class CommandProvider implements BackupProvider {
  readonly name = 'command'
  readonly url: string
  readonly points = undefined
  readonly incremental: Verdict = { ok: false, reason: NO_PARENT }
  readonly digests: Verdict = { ok: false, reason: 'an archive keeps digests of its data, not of the blocks of a disk' }
  readonly #argv: readonly string[]
  readonly #environment: Readonly<NodeJS.ProcessEnv>
  readonly #deps: CommandDeps

  constructor(argv: readonly string[], environment: Readonly<NodeJS.ProcessEnv>, deps: CommandDeps) {
    this.url = `command:${argv.join(' ')}`
    this.#argv = argv
    this.#environment = Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('VCB_')))
    this.#deps = deps
  }

  async begin(request: PointRequest, options?: Parameters<BackupProvider['begin']>[1]): Promise<BackupWriter> {
    const { directory } = new PointNames(request.config)
    const id = pointName(directory, request.time, request.run) as PointId
    const point = { VCB_VM: request.config.vm.name, VCB_POINT: id, VCB_RUN: request.run }
    const output = await commandOutput(this.#argv, { ...this.#environment, ...point }, this.#deps, options)
    return TarWriter.begin(id, request, output, { refused: NO_PARENT })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Every writer ends its own program.
  }
}
