import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { selectVms } from '../../src/inventory/index.ts'
import { createSshHosts } from '../../src/ssh/index.ts'
import { ProxyGuest } from '../../src/transport/index.ts'
import { connectVsphere, createSnapshot, vmMoRef } from '../../src/vsphere/index.ts'
import { peer } from '../peer.ts'
import { LabProcess } from '../storm/lab-process.ts'
import { makeVddkStandIn } from '../vddk-stand-in.ts'
import type { TransportSite } from './transports.ts'

/** A lab as a process of its own, so that what stays open in this one is ours, and what transports of its disks are made of. */
export type TransportWorld = AsyncDisposable & {
  readonly lab: LabProcess
  readonly site: TransportSite
  /** Another session, other connections; the caller disposes it. */
  openSite(): Promise<TransportSite & AsyncDisposable>
  /** A snapshot of a user's own. */
  userSnapshot(vm: string, name: string): Promise<void>
  /** What of a read is left at the lab, in words; empty when all was given back. */
  left(): Promise<readonly string[]>
}

export async function openTransportWorld(scenario: object): Promise<TransportWorld> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-transports-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const file = join(directory, 'scenario.json')
  await writeFile(file, JSON.stringify(scenario))
  const lab = stack.use(await LabProcess.start(join(directory, 'lab'), file))
  const [nbdkit, qemu] = [peer('nbdkit'), peer('qemu-img')]
  const vddk = nbdkit === undefined || qemu === undefined ? undefined : await makeVddkStandIn(join(directory, 'vddk'), lab.ready, nbdkit)
  const openSite = (): Promise<TransportSite & AsyncDisposable> => siteOf(lab, vddk)
  const site = stack.use(await openSite())
  const kept = stack.move()
  return {
    lab,
    site,
    openSite,
    async userSnapshot(vm, name) {
      const [found] = await selectVms(site.vsphere, [`name:${vm}`])
      if (found === undefined) throw new Error(`there is no VM ${vm}`)
      await createSnapshot(site.vsphere, vmMoRef(found), { name, description: '' })
    },
    async left() {
      // A server hears of a closed connection a moment later.
      for (let turn = 0; ; turn++) {
        const found = leftIn(await lab.state())
        if (found.length === 0 || turn === 100) return found
        await systemClock.sleep(20)
      }
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

/** A VM that may take disks; give a lab one where hotadd is to be tried. */
export const PROXY_VM = Object.freeze({
  name: 'proxy',
  datastore: 'v6',
  proxy: true,
  extraConfig: { 'disk.EnableUUID': 'TRUE' },
  disks: [{ size: '1MiB' }],
})

async function siteOf(lab: LabProcess, vddk: TransportSite['vddk']): Promise<TransportSite & AsyncDisposable> {
  await using stack = new AsyncDisposableStack()
  const { ready } = lab
  const { url, thumbprint, user, passwordFile, datastores } = ready
  const password = new Secret((await readFile(passwordFile, 'utf8')).trim())
  const parts = { clock: systemClock, log: silentLog }
  const vsphere = stack.use(await connectVsphere({ url, user, password, trust: { thumbprint }, ...parts }))
  const { keyFile, hosts } = ready.ssh
  const key = { path: keyFile, text: new Secret(await readFile(keyFile, 'utf8')) }
  const shells = hosts.map(({ host, address, port, hostKey }) => ({
    name: host,
    address,
    port,
    user: 'root',
    login: async () => ({ key }),
    pin: async () => ({ fingerprints: [hostKey] }),
  }))
  const ssh = stack.use(createSshHosts(shells, parts))
  const inside = (await lab.state()).vms.find(({ name }) => name === PROXY_VM.name)?.guest
  const guest = new ProxyGuest({
    sysfs: inside?.sysfs ?? '/nowhere',
    devices: inside?.devices ?? '/nowhere',
    appearMs: 5000,
    clock: systemClock,
  })
  const kept = stack.move()
  return { vsphere, datastores, ssh, guest, vddk, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}

function leftIn({ vms, leases, nfc, locks, tasks }: Awaited<ReturnType<LabProcess['state']>>): readonly string[] {
  return [
    ...vms.flatMap((vm) =>
      vm.snapshots.filter(({ name }) => name.includes('vcb-proxy')).map(({ name }) => `snapshot ${name} of ${vm.name}`),
    ),
    ...vms.flatMap((vm) => vm.disks.filter(({ attached }) => attached).map(({ label }) => `disk ${label} attached to ${vm.name}`)),
    ...vms.flatMap((vm) => (vm.guest?.disks ?? []).filter(({ name }) => name !== 'sda').map(({ name }) => `device ${name} in ${vm.name}`)),
    ...vms.filter((vm) => vm.consolidationNeeded).map((vm) => `${vm.name} needs consolidation`),
    ...leases.filter(({ state }) => state === 'ready' || state === 'initializing').map(({ id, vm }) => `lease ${id} of ${vm}`),
    ...nfc.sessions.map(({ vm }) => `NFC session of ${vm}`),
    ...(nfc.connections > 0 ? [`${nfc.connections} NFC connections`] : []),
    ...locks.filter(({ holder }) => holder.startsWith('NFC')).map(({ path, holder }) => `${path} locked by ${holder}`),
    ...tasks.filter(({ state }) => state === 'running' || state === 'queued').map(({ name }) => `task ${name}`),
  ]
}
