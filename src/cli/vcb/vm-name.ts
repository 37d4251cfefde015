import { AgentError } from '../../core/index.ts'
import { findBySpecification, type FoundVm, parseSearchSpecification } from '../../inventory/index.ts'
import { printable } from '../io.ts'
import { LOGIN_FLAGS, usage } from './flags.ts'
import { LOGIN_HELP, type Tool } from './tool.ts'

/** `vcbVmName`: the VMs a search specification names, one `key:value` line a property, for scripts that grep `^moref:` or `^name:`. */
export const vcbVmName: Tool = {
  name: 'vcbVmName',
  flags: { ...LOGIN_FLAGS, s: 'value' },
  help: `Usage: vcbVmName [-h HOST] [-u USER] [-L LEVEL] -s SPECIFICATION

Lists the VMs that a search specification names:

  Found VM:
  moref:vm-57
  name:web01
  uuid:421ed41c-523a-4b6d-8e2f-001122334455
  ipaddr:10.0.0.11          only while VMware Tools tell it

Specifications: name:NAME (exactly so), moref:ID, uuid:BIOS-UUID, ipaddr:ADDRESS-OR-DNS-NAME (a running guest), powerstate:on|off|suspended, any:
${LOGIN_HELP}`,
  examples: [
    'vcbVmName -h vc.example.com -u backup -s any: -L 0',
    "vcbVmName -h vc.example.com -u backup -s name:web01 | grep '^moref:' | cut -d: -f2",
  ],
  exits: {
    5: 'no VM fits',
  },
  run: async ({ flags, settings, withAgent, io }) => {
    const text = flags.values.get('s')
    if (text === undefined || flags.rest.length > 0) throw usage('vcbVmName', 'vcbVmName needs one search specification (-s).')
    const specification = parseSearchSpecification(text, settings.lookup)
    const found = await withAgent(async ({ agent }) => {
      const vsphere = await agent.vsphere()
      const vms = await findBySpecification(vsphere, specification, { signal: io.signal })
      if (vms.length > 0) return vms
      throw new AgentError('NOT_FOUND', `${JSON.stringify(text)} matches no VM at ${vsphere.host}.`, {
        subject: text,
        next: 'List the VMs with "vcbVmName -s any:" and name one of those.',
      })
    })
    io.out(found.map(block).join(''))
    return 0
  },
}

function block({ vm, address }: FoundVm): string {
  const lines = ['Found VM:', `moref:${vm.moref}`, `name:${vm.name}`, `uuid:${vm.biosUuid}`]
  if (address !== undefined) lines.push(`ipaddr:${address}`)
  return lines.map((line) => `${printable(line)}\n`).join('')
}
