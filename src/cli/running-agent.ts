import type { Command } from 'commander'
import type { ApiClient } from '../api/index.ts'
import { AgentError, isThere } from '../core/index.ts'
import type { CliIo } from './io.ts'
import type { CommandFlags } from './options.ts'

/** Where the agent is that a command asks. */
export type AgentFlags = CommandFlags & {
  /** False: `--no-agent`. */
  readonly agent?: string | false | undefined
  readonly tokenFile?: string | undefined
  readonly agentThumbprint?: string | undefined
  readonly agentCaFile?: string | undefined
}

/** Flags of commands that ask a running agent. `alone`: it can do without one. */
export function withRunningAgent(command: Command, { alone }: { readonly alone: boolean }): Command {
  command
    .optionsGroup('Agent:')
    .option('--agent <url>', 'ask the agent at https://HOST:PORT instead of the one on this proxy (VCB_AGENT)')
    .option('--token-file <file>', 'file with a token for it, - for standard input (VCB_TOKEN_FILE)')
    .option('--agent-thumbprint <hex>', 'its pinned certificate, SHA-256 or SHA-1 (VCB_AGENT_THUMBPRINT)')
    .option('--agent-ca-file <file>', 'PEM file of the certificate authority to trust (VCB_AGENT_CA_FILE)')
  if (alone) command.option('--no-agent', 'ask none, even when one runs here')
  return command.optionsGroup('Options:')
}

/** The agent that was named, or the one that answers on this state directory's socket; undefined when there is none. Errors: CONFIG, USAGE. */
export async function findAgent(io: CliIo, flags: AgentFlags): Promise<ApiClient | undefined> {
  if (flags.agent === false) return undefined
  const { environment } = io
  const { loadConfig, readSecret } = await import('../agent/index.ts')
  const url = flags.agent ?? environment['VCB_AGENT']
  if (url !== undefined) {
    const { ApiClient: Client } = await import('../api/index.ts')
    return Client.open({
      url,
      token: await readSecret({ file: flags.tokenFile ?? environment['VCB_TOKEN_FILE'] }, 'token for the agent', '--token-file'),
      trust: {
        thumbprint: flags.agentThumbprint ?? environment['VCB_AGENT_THUMBPRINT'],
        caFile: flags.agentCaFile ?? environment['VCB_AGENT_CA_FILE'],
      },
    })
  }
  const { socket } = (await loadConfig(flags, environment)).api
  if (socket === undefined || !(await isThere(socket.path))) return undefined
  const { ApiClient: Client } = await import('../api/index.ts')
  const client = await Client.open({ socket: socket.path })
  // What a dead agent left answers nobody.
  if (await client.isThere({ signal: io.signal })) return client
  await client[Symbol.asyncDispose]()
  return undefined
}

/** The one that was named by its address; undefined when none was. */
export async function namedAgent(io: CliIo, flags: AgentFlags): Promise<ApiClient | undefined> {
  return typeof flags.agent === 'string' || (flags.agent !== false && io.environment['VCB_AGENT'] !== undefined)
    ? findAgent(io, flags)
    : undefined
}

/** One that there has to be. */
export async function needAgent(io: CliIo, flags: AgentFlags): Promise<ApiClient> {
  const client = await findAgent(io, flags)
  if (client !== undefined) return client
  throw new AgentError('UNAVAILABLE', 'No agent runs on this proxy.', {
    next: 'Name another one with --agent, or do it without: "vcb backup", "vcb status".',
  })
}
