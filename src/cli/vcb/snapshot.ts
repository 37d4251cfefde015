import { type Agent, runRemoveSnapshot, runTakeSnapshot } from '../../agent/index.ts'
import { AgentError, type VmRef } from '../../core/index.ts'
import { findManualSnapshot } from '../../flow/index.ts'
import { findOneBySpecification, LOOKUP_METHODS, parseSearchSpecification } from '../../inventory/index.ts'
import { type SnapshotNode, snapshotTree, vmMoRef } from '../../vsphere/index.ts'
import { printable } from '../io.ts'
import { LOGIN_FLAGS, usage } from './flags.ts'
import { LOGIN_HELP, type Tool, type ToolCall } from './tool.ts'

const MODES = ['c', 'f', 'd', 'l', 'i'] as const

/** `vcbSnapshot`: a user's own snapshots of a VM. They are no job's: nothing but this command or a person removes them. */
export const vcbSnapshot: Tool = {
  name: 'vcbSnapshot',
  flags: { ...LOGIN_FLAGS, c: 'value', f: 'value', d: 'value', l: 'value', i: 'value' },
  help: `Usage: vcbSnapshot [-h HOST] [-u USER] [-L LEVEL] MODE

  -c MOREF NAME [DESCRIPTION]  make a snapshot; prints SsId:ID. The guest is quiesced as VCB_QUIESCE or vcb.yaml say, without memory
  -f MOREF NAME                find by name; prints SsId:ID of each, oldest first
  -d MOREF ssid:ID             remove it, and merge its redo logs
  -l MOREF                     list all
  -i MOREF ssid:ID             show one

MOREF is a reference as vcbVmName prints it, or a search specification that names one VM. A snapshot made so is yours: no job, no recovery and no
"vcb orphans --remove" takes it away. Snapshots of vcb's jobs and of other backup products are not removed here.
${LOGIN_HELP}`,
  examples: [
    'vcbSnapshot -h vc.example.com -u backup -c vm-57 nightly',
    'vcbSnapshot -h vc.example.com -u backup -f vm-57 nightly',
    'vcbSnapshot -h vc.example.com -u backup -d vm-57 ssid:snapshot-88',
  ],
  exits: {
    5: 'no such VM or snapshot',
    6: 'another job has the VM, or the snapshot is not yours to remove',
  },
  run: async (call) => {
    const { values } = call.flags
    const [mode, second] = MODES.filter((one) => values.has(one))
    if (mode === undefined || second !== undefined) throw usage('vcbSnapshot', 'vcbSnapshot needs one of -c, -f, -d, -l and -i.')
    const target = values.get(mode) ?? ''
    const lines = await call.withAgent(async ({ agent }) => work(call, mode, agent, await vmOf(agent, target, call)))
    call.io.out(lines.map((line) => `${printable(line)}\n`).join(''))
    return 0
  },
}

async function work(call: ToolCall, mode: (typeof MODES)[number], agent: Agent, vm: VmRef): Promise<readonly string[]> {
  const { rest } = call.flags
  const vsphere = await agent.vsphere()
  const options = { signal: call.io.signal, subject: vm.name }
  switch (mode) {
    case 'c': {
      const { node } = await runTakeSnapshot(agent, { vm, name: word(rest, 0, 'the name of the snapshot', 2), description: rest[1] })
      return [`SsId:${node.snapshot.value}`]
    }
    case 'f': {
      const name = word(rest, 0, 'the name of the snapshot')
      const found = flat(await snapshotTree(vsphere, vmMoRef(vm), options)).filter((node) => node.name === name)
      if (found.length > 0) return found.map((node) => `SsId:${node.snapshot.value}`)
      throw new AgentError('NOT_FOUND', `${vm.name} has no snapshot named ${JSON.stringify(name)}.`, {
        subject: vm.name,
        next: 'List its snapshots with "vcbSnapshot -l" and name one of those.',
      })
    }
    case 'd':
      await runRemoveSnapshot(agent, vm, snapshotId(rest))
      return []
    case 'i':
      return describe(await findManualSnapshot(vsphere, vm, snapshotId(rest), options))
    case 'l':
      if (rest.length > 0) throw usage('vcbSnapshot', `vcbSnapshot does not understand ${JSON.stringify(rest[0])}.`)
      return flat(await snapshotTree(vsphere, vmMoRef(vm), options)).flatMap(describe)
  }
}

/** A bare reference, or any search specification. */
async function vmOf(agent: Agent, target: string, { io }: ToolCall): Promise<VmRef> {
  const prefixed = [...LOOKUP_METHODS, 'powerstate', 'any'].some((prefix) => target.toLowerCase().startsWith(`${prefix}:`))
  const text = prefixed ? target : `moref:${target}`
  return findOneBySpecification(await agent.vsphere(), text, parseSearchSpecification(text), { signal: io.signal })
}

/** The word at `at`, of at most `most` words in all. */
function word(rest: readonly string[], at: number, what: string, most = 1): string {
  const found = rest[at]
  if (found === undefined) throw usage('vcbSnapshot', `vcbSnapshot needs ${what}.`)
  const extra = rest[most]
  if (extra !== undefined) throw usage('vcbSnapshot', `vcbSnapshot does not understand ${JSON.stringify(extra)}.`)
  return found
}

const snapshotId = (rest: readonly string[]): string => word(rest, 0, 'the snapshot, as ssid:ID').replace(/^ssid:/i, '')

function describe(node: SnapshotNode): readonly string[] {
  return [
    `SsId:${node.snapshot.value}`,
    `name:${node.name}`,
    `created:${node.createTime}`,
    `quiesced:${node.quiesced ? 'yes' : 'no'}`,
    `description:${node.description}`,
  ]
}

/** Parents before children, so oldest first along a chain. */
const flat = (nodes: readonly SnapshotNode[]): readonly SnapshotNode[] => nodes.flatMap((node) => [node, ...flat(node.children)])
