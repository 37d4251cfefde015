import { createHash, randomBytes } from 'node:crypto'
import { type BlockSource, MIB, type MoRef, systemClock } from '../../src/core/index.ts'
import type { Lab } from '../../src/lab/index.ts'
import { type ChunkCompression, createNfcDisk, dialNfc, type DiskInfo, NfcSession, type NfcTicket } from '../../src/nfc/index.ts'
import { ticketToRead, ticketToWrite, type Vsphere } from '../../src/vsphere/index.ts'
import { LabClient } from './lab-client.ts'
import { openLabSession } from './lab-session.ts'

/** A lab with chains of every kind, the real vSphere sessions and the real NFC client against it. */
export type NfcWorld = AsyncDisposable & {
  readonly lab: Lab
  readonly client: LabClient
  readonly vsphere: { readonly vcenter: Vsphere; readonly esxi: Vsphere }
  /** moref by VM name, as the endpoint names it. */
  vm(name: string, kind?: Kind): MoRef
  /** Takes a snapshot through vCenter; the frozen file of each disk. */
  freeze(
    name: string,
  ): Promise<{ readonly snapshot: string; readonly files: readonly { readonly key: number; readonly fileName: string }[] }>
  session(ticket: NfcTicket, options?: { readonly encrypted?: boolean; readonly bufferBytes?: number }): Promise<NfcSession>
  open(
    name: string,
    path: string,
    how?: How,
  ): Promise<{ readonly disk: BlockSource; readonly info: DiskInfo; readonly session: NfcSession }>
  writeTicket(name: string, key: number): Promise<NfcTicket>
  /** No session, lock, memory or socket of NFC is left. */
  isClean(): Promise<boolean>
}
export type Kind = 'vcenter' | 'esxi'
export type How = {
  readonly kind?: Kind
  readonly encrypted?: boolean
  readonly compression?: ChunkCompression
  readonly bufferBytes?: number
}

const chain = (name: string, datastore: string): object => ({
  name,
  datastore,
  tools: 'notInstalled',
  // A guest's record area moves with its writes; digests of the frozen image are what counts.
  disks: [{ size: '16MiB', content: 'random' }],
  snapshots: [{ name: 'one' }, { name: 'two' }],
})

export const nfcScenario = {
  taskMs: 0,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [
        { name: 'v6', type: 'VMFS6' },
        { name: 'v5', type: 'VMFS5' },
      ],
      vms: [
        chain('sesparse', 'v6'),
        chain('cowd', 'v5'),
        { name: 'odd', datastore: 'v6', tools: 'notInstalled', disks: [{ size: 3 * 1024 * 1024 + 512 * 77, content: 'random' }] },
        {
          name: 'off',
          datastore: 'v6',
          power: 'poweredOff',
          disks: [
            { size: '8MiB', records: false },
            { size: '4MiB', thin: false },
          ],
        },
        { name: 'other', datastore: 'v6', power: 'poweredOff', disks: [{ size: '1MiB' }] },
      ],
    },
  ],
}

export async function openNfcWorld(scenario: object = nfcScenario): Promise<NfcWorld> {
  await using stack = new AsyncDisposableStack()
  const opened = stack.use(await openLabSession({ scenario }))
  const { lab } = opened
  const client = await LabClient.login(lab)
  const vsphere = { vcenter: await opened.connect('vcenter'), esxi: await opened.connect('esxi') }
  const morefs = new Map((await lab.control.state()).vms.map((vm) => [vm.name, vm.moref]))
  const vm = (name: string, kind: Kind = 'vcenter'): MoRef => {
    const value = morefs.get(name) ?? ''
    return { type: 'VirtualMachine', value: kind === 'esxi' ? value.replace('vm-', '') : value }
  }
  const session: NfcWorld['session'] = async (ticket, options = {}) =>
    NfcSession.open(
      await dialNfc(ticket, { encrypted: options.encrypted ?? true, clock: systemClock, random: (size) => randomBytes(size) }),
      { host: ticket.host, clock: systemClock, bufferBytes: options.bufferBytes },
    )
  const kept = stack.move()
  return {
    lab,
    client,
    vsphere,
    vm,
    session,
    freeze: async (name) => {
      const snapshot = await client.takeSnapshot(vm(name).value, 'frozen')
      return { snapshot, files: await client.frozenDisks(snapshot) }
    },
    open: async (name, path, how = {}) => {
      const kind = how.kind ?? 'vcenter'
      const opened = await session(await ticketToRead(vsphere[kind], vm(name, kind)), how)
      try {
        const info = await opened.openDisk(path, 'read')
        return { disk: createNfcDisk(opened, info, how.compression ?? 'skipz'), info, session: opened }
      } catch (error) {
        await opened[Symbol.asyncDispose]()
        throw error
      }
    },
    writeTicket: (name, key) => ticketToWrite(vsphere.vcenter, vm(name), { key, host: undefined }),
    isClean: async () => {
      for (let turn = 0; turn < 100; turn++) {
        const { nfc, locks } = await lab.control.state()
        const held = locks.filter((lock) => lock.holder.startsWith('NFC'))
        if (nfc.connections === 0 && nfc.memoryBytes === 0 && nfc.sessions.length === 0 && held.length === 0) return true
        await systemClock.sleep(20)
      }
      return false
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

/** SHA-256 of a whole source. */
export async function digestOfSource(source: BlockSource, piece = 3 * MIB + 512): Promise<string> {
  const hash = createHash('sha256')
  const buffer = Buffer.alloc(piece)
  for (let at = 0; at < source.size; at += piece) {
    const part = buffer.subarray(0, Math.min(piece, source.size - at))
    await source.read(at, part)
    hash.update(part)
  }
  return hash.digest('hex')
}
