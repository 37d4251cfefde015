/**
 * Reads disks of a VM through one transport, as a backup reads them (four reads of 1 MiB ahead), as a process of its own.
 * `node bench/read-transport.ts TRANSPORT VM DISKS BYTES SERVER PASSES`, the connection in the environment (VCB_…); prints one line of JSON. BYTES are read
 * in all, of each disk its share, PASSES times over; SERVER is the pid whose processor time counts too.
 */
import { readFileSync } from 'node:fs'
import { type BlockSource, MIB, Secret, silentLog, systemClock } from '../src/core/index.ts'
import { connectVsphere } from '../src/vsphere/index.ts'
import { freezeDisks } from '../test/transports/frozen-disks.ts'
import { TRANSPORTS } from '../test/transports/transports.ts'
import { type ReadCost, startCost, WARM_UP } from './read-cost.ts'

const DEPTH = 4
const { env } = process
const [name = '', vm = '', count = '1', bytes = '0', server = '', passes = '1'] = process.argv.slice(2)

/** A disk and the memory it is read into, used again and again as a backup does. */
type Reader = { readonly source: BlockSource; readonly buffers: readonly Buffer[] }

/** Every byte of a range in order, four reads ahead. */
async function readAll({ source, buffers }: Reader, start: number, end: number): Promise<void> {
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
  const datastores = Object.fromEntries((env['VCB_DATASTORES'] ?? '').split(',').map((pair) => pair.split('=') as [string, string]))
  const transport = TRANSPORTS.find((each) => each.name === name)?.make({ vsphere, datastores })
  if (transport === undefined) throw new Error(`there is no transport ${name}`)
  await using stack = new AsyncDisposableStack()
  const readers: Reader[] = []
  for (const disk of frozen.disks.slice(0, Number(count))) {
    const source = stack.use(await transport.open(disk, { claims: frozen.claims }))
    readers.push({ source, buffers: Array.from({ length: DEPTH }, () => Buffer.alloc(MIB, 1)) })
  }
  const share = Number(bytes) / readers.length
  if (readers.length !== Number(count) || readers.some(({ source }) => source.size < share))
    throw new Error('the disks are not as they should be')
  const warm = Math.floor(WARM_UP / readers.length)
  await Promise.all(readers.map((reader) => readAll(reader, 0, warm)))
  const done = startCost(Number(server))
  for (let pass = 0; pass < Number(passes); pass++) await Promise.all(readers.map((reader) => readAll(reader, warm, share)))
  return done((share - warm) * readers.length * Number(passes))
}

console.log(JSON.stringify(await measure()))
