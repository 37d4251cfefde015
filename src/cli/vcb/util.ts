import type { Agent } from '../../agent/index.ts'
import type { Abortable } from '../../core/index.ts'
import { resourcePoolPaths, vmFolderPaths } from '../../inventory/index.ts'
import { printable } from '../io.ts'
import { LOGIN_FLAGS, usage } from './flags.ts'
import { LOGIN_HELP, type Tool } from './tool.ts'

const WORK: Readonly<Record<string, (agent: Agent, options: Abortable) => Promise<readonly string[]>>> = {
  ping: async (agent) => {
    const { host, user, about } = await agent.vsphere()
    return [`${about.fullName} at ${host}, logged in as ${user}`]
  },
  resourcepools: async (agent, options) => resourcePoolPaths(await agent.vsphere(), options),
  vmfolders: async (agent, options) => vmFolderPaths(await agent.vsphere(), options),
}

/** `vcbUtil`: tries the login, and lists what may stand in a catalog. */
export const vcbUtil: Tool = {
  name: 'vcbUtil',
  // Published guides write -c, and one of them -s.
  flags: { ...LOGIN_FLAGS, c: 'value', s: 'value' },
  help: `Usage: vcbUtil [-h HOST] [-u USER] [-L LEVEL] -c ping|resourcepools|vmfolders     (-s is taken for -c)

  ping           log in, say where
  resourcepools  the paths for resourcepool= in a catalog
  vmfolders      the paths for folderpath= in a catalog
${LOGIN_HELP}`,
  examples: ['vcbUtil -h vc.example.com -u backup -c ping', 'vcbUtil -h vc.example.com -u backup -c resourcepools'],
  exits: {
    4: 'the login was refused',
    7: 'nobody answers',
  },
  run: async ({ flags, withAgent, io }) => {
    const what = flags.values.get('c') ?? flags.values.get('s') ?? ''
    const work = Object.hasOwn(WORK, what.toLowerCase()) ? WORK[what.toLowerCase()] : undefined
    if (work === undefined || flags.rest.length > 0) throw usage('vcbUtil', 'vcbUtil needs -c ping, -c resourcepools or -c vmfolders.')
    const lines = await withAgent(({ agent }) => work(agent, { signal: io.signal }))
    io.out(lines.map((line) => `${printable(line)}\n`).join(''))
    return 0
  },
}
