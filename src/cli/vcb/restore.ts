import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type Agent, exportPlace, runVmRestore } from '../../agent/index.ts'
import { AgentError, fromErrno } from '../../core/index.ts'
import { Catalog } from '../../vcb-files/index.ts'
import { encodeName, findVms, parseDatastorePath, type PlacementWish } from '../../vsphere/index.ts'
import { printable } from '../io.ts'
import { LOGIN_FLAGS, usage } from './flags.ts'
import { LOGIN_HELP, type Tool, type ToolCall } from './tool.ts'

const BEHAVIOURS = ['abort', 'skip', 'overwrite'] as const

/** `vcbRestore`: an export back into vSphere, where its catalog, or an alternate one, says. */
export const vcbRestore: Tool = {
  name: 'vcbRestore',
  flags: { ...LOGIN_FLAGS, s: 'value', a: 'value', b: 'value', q: 'switch' },
  help: `Usage: vcbRestore [-h HOST] [-u USER] [-L LEVEL] -s DIR [-a CATALOG] [-b abort|skip|overwrite] [-q]

Restores the VM that vcbMounter or vcbSnapAll exported to DIR. Its catalog says where: host=, resourcepool=, folderpath=, display_name=, and the datastore of config.vmx.

  -a CATALOG  go by this edited copy of the catalog instead
  -b          when the folder has a VM of that name: abort (the default), skip and succeed, or overwrite it, which needs it powered off
  -q          quiet
${LOGIN_HELP}`,
  examples: [
    'vcbRestore -h vc.example.com -u backup -s /export/web01',
    'vcbRestore -h vc.example.com -u backup -s /export/web01 -a /tmp/catalog -b overwrite',
  ],
  exits: {
    5: 'no such export, or what the catalog names is not there',
    6: 'there is a VM of that name',
    9: 'the export is damaged',
    12: 'a disk was not in the export',
  },
  run: async (call) => {
    const { values, rest } = call.flags
    const source = values.get('s')
    if (source === undefined || rest.length > 0) throw usage('vcbRestore', 'vcbRestore needs the directory of an export (-s).')
    const behaviour = BEHAVIOURS.find((one) => one === (values.get('b') ?? 'abort').toLowerCase())
    if (behaviour === undefined)
      throw usage('vcbRestore', `The value of -b is ${BEHAVIOURS.join(', ')}, not ${JSON.stringify(values.get('b'))}.`)
    const place = exportPlace(resolve(source))
    const catalog = await readCatalog(values.get('a') ?? place.catalog)
    return call.withAgent(({ agent }) => restore(call, agent, place.point, catalog, behaviour), { repo: place.url })
  },
}

async function restore(
  call: ToolCall,
  agent: Agent,
  point: string,
  catalog: Catalog,
  behaviour: (typeof BEHAVIOURS)[number],
): Promise<number> {
  const placement = placementOf(catalog)
  const name = named(catalog.get('display_name'))
  const note = (line: string): void => {
    if (!call.flags.values.has('q')) call.io.err(`${printable(line)}\n`)
  }
  if (behaviour === 'skip' && name !== undefined && placement.folder !== undefined) {
    const path = `${placement.folder}/${encodeName(name)}`
    if ((await findVms(await agent.vsphere(), { by: 'path', path }, { signal: agent.signal })).length > 0) {
      note(`${path} is there already; nothing was restored.`)
      return 0
    }
  }
  const result = await runVmRestore(
    agent,
    {
      point,
      name,
      placement,
      networks: {},
      overwrite: behaviour === 'overwrite',
      powerOn: false,
      transports: agent.config.restoreTransports,
      keepIdentity: await keepsIdentity(agent, point, name, behaviour),
      disks: [],
    },
    {},
  )
  for (const warning of result.warnings) note(warning)
  for (const device of result.dropped) note(`not restored: ${device}`)
  for (const { disk, reason } of result.notProtected) note(`not in the export: ${disk}, ${reason}`)
  note(`Restored ${result.vm.name} (${result.vm.moref}) on datastore ${result.datastore}`)
  return result.notProtected.some((disk) => disk.excluded !== true) ? new AgentError('PARTIAL', '').exit : 0
}

/** Where a catalog says that the VM goes. A host's inventory paths begin with the name of its root folder, which is no part of ours. */
export function placementOf(catalog: Catalog): PlacementWish {
  const path = (key: string): string | undefined => named(catalog.get(key)?.replace(/^\/ha-folder-root(?=\/)/, ''))
  const vmx = named(catalog.get('config.vmx'))
  return {
    host: named(catalog.get('host')),
    resourcePool: path('resourcepool')?.split('/').at(-1),
    folder: path('folderpath'),
    datastore: vmx === undefined ? undefined : parseDatastorePath(vmx).datastore,
  }
}

const named = (text: string | undefined): string | undefined => (text === undefined || text.trim() === '' ? undefined : text)

/** Uuids and MAC addresses stay with the VM that comes back as itself: under its own name, and with no other that has its BIOS uuid. */
async function keepsIdentity(
  agent: Agent,
  point: string,
  name: string | undefined,
  behaviour: (typeof BEHAVIOURS)[number],
): Promise<boolean> {
  const store = await agent.points()
  await using reader = await store.open(point, { signal: agent.signal })
  const { vm } = reader.manifest
  if (name !== undefined && name !== vm.name) return false
  if (behaviour === 'overwrite') return true
  return (await findVms(await agent.vsphere(), { by: 'uuid', uuid: vm.biosUuid, instance: false }, { signal: agent.signal })).length === 0
}

async function readCatalog(path: string): Promise<Catalog> {
  try {
    return Catalog.parse(await readFile(path), path)
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}
