/**
 * Reads disks of a VM through one transport, as a backup reads them (four reads of 1 MiB ahead), as a process of its own.
 * `node bench/read-transport.ts TRANSPORT VM DISKS BYTES`, the connection in the environment (VCB_…); prints one line of JSON.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type BlockSource, MIB, Secret, silentLog, systemClock } from '../src/core/index.ts'
import { createNfcLimits, httpsTransport, nbdTransport, type SnapshotDisk, sanTransport, type Transport } from '../src/transport/index.ts'
import { connectVsphere, type Vsphere } from '../src/vsphere/index.ts'
import { freezeDisks } from '../test/transports/frozen-disks.ts'
import { type ReadCost, startCost, WARM_UP } from './read-cost.ts'

const DEPTH = 4
const { env } = process
const [name = '', vm = '', count = '1', bytes = '0'] = process.argv.slice(2)

function transportOf(vsphere: Vsphere): Transport {
  const datastores = Object.fromEntries((env['VCB_DATASTORES'] ?? '').split(',').map((pair) => pair.split('=') as [string, string]))
  const nbd = { clock: systemClock, random: randomBytes, limits: createNfcLimits() }
  switch (name) {
    case 'san':
      return sanTransport({ datastores, clock: systemClock, vsphere })
    case 'nbd':
    case 'nbdssl':
      return nbdTransport(vsphere, { ...nbd, name })
    case 'https':
      return httpsTransport(vsphere)
    default:
      throw new Error(`there is no transport ${name}`)
  }
}

/** Every byte of a range in order, four reads ahead. */
async function readAll(source: BlockSource, start: number, end: number): Promise<void> {
  const buffers = Array.from({ length: DEPTH }, () => Buffer.allocUnsafeSlow(MIB))
  let at = start
  await Promise.all(
    buffers.map(async (buffer) => {
      while (at < end) {
        const offset = at
        at += MIB
        await source.read(offset, buffer.subarray(0, Math.min(MIB, end - offset)))
      }
    }),
  )
}

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
  const transport = transportOf(vsphere)
  const open = async (disk: SnapshotDisk): Promise<BlockSource> => transport.open(disk)
  await using stack = new AsyncDisposableStack()
  const sources: BlockSource[] = []
  for (const disk of frozen.disks.slice(0, Number(count))) sources.push(stack.use(await open(disk)))
  const total = sources.reduce((sum, source) => sum + source.size, 0)
  if (total !== Number(bytes)) throw new Error(`the disks hold ${total} bytes instead of ${bytes}`)
  const warm = Math.floor(WARM_UP / sources.length)
  await Promise.all(sources.map((source) => readAll(source, 0, warm)))
  const done = startCost()
  await Promise.all(sources.map((source) => readAll(source, warm, source.size)))
  return done(total - warm * sources.length)
}

console.log(JSON.stringify(await measure()))
