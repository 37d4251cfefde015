/**
 * Reads disks of a VM through one transport, as a backup reads them (four reads of 1 MiB ahead), as a process of its own.
 * `node bench/read-transport.ts TRANSPORT VM DISKS BYTES SERVER PASSES`, the connection in the environment (VCB_…); prints one line of JSON. BYTES are read
 * in all, of each disk its share, PASSES times over; SERVER is the pid whose processor time counts too.
 */
import { readFileSync } from 'node:fs'
import { type BlockSource, Secret, silentLog, systemClock } from '../src/core/index.ts'
import { createSshHosts } from '../src/ssh/index.ts'
import { connectVsphere } from '../src/vsphere/index.ts'
import { freezeDisks, NO_PROXY } from '../test/transports/frozen-disks.ts'
import { TRANSPORTS } from '../test/transports/transports.ts'
import type { ReadCost } from './read-cost.ts'
import { readTimed } from './read-timed.ts'

const { env } = process
const [name = '', vm = '', count = '1', bytes = '0', server = '', passes = '1'] = process.argv.slice(2)

async function measure(): Promise<ReadCost> {
  await using vsphere = await connectVsphere({
    url: env['VCB_VCENTER'] ?? '',
    user: env['VCB_USER'] ?? '',
    password: new Secret(readFileSync(env['VCB_PASSWORD_FILE'] ?? '', 'utf8').trim()),
    trust: { thumbprint: env['VCB_THUMBPRINT'] },
    clock: systemClock,
    log: silentLog,
  })
  await using frozen = await freezeDisks(vsphere, vm)
  const datastores = Object.fromEntries((env['VCB_DATASTORES'] ?? '').split(',').map((pair) => pair.split('=') as [string, string]))
  // The host's shell is measured against a real sshd, in bench/read-ssh.ts.
  const ssh = createSshHosts([], { clock: systemClock, log: silentLog })
  const transport = TRANSPORTS.find((each) => each.name === name)?.make({ vsphere, datastores, ssh, guest: NO_PROXY, vddk: undefined })
  if (transport === undefined) throw new Error(`there is no transport ${name}`)
  await using stack = new AsyncDisposableStack()
  const sources: BlockSource[] = []
  for (const disk of frozen.disks.slice(0, Number(count))) sources.push(stack.use(await transport.open(disk, { claims: frozen.claims })))
  if (sources.length !== Number(count)) throw new Error(`there are no ${count} disks`)
  return await readTimed(sources, Number(bytes), Number(passes), Number(server))
}

console.log(JSON.stringify(await measure()))
