import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MIB, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { describeVm, selectVms } from '../../src/inventory/index.ts'
import { createSshHosts, type SshHosts } from '../../src/ssh/index.ts'
import { type DiskWriting, sshTransport, type TargetDisk } from '../../src/transport/index.ts'
import { connectVsphere, type Vsphere } from '../../src/vsphere/index.ts'
import { type LabSession, openLabSession } from './lab-session.ts'

const scenario = {
  taskMs: 0,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1', ssh: true }],
      datastores: [{ name: 'v6', type: 'VMFS6' }],
      vms: [
        { name: 'target', datastore: 'v6', power: 'poweredOff', disks: [{ size: '48MiB', content: 'empty' }] },
        { name: 'running', datastore: 'v6', disks: [{ size: '1MiB' }] },
        { name: 'frozen', datastore: 'v6', power: 'poweredOff', disks: [{ size: '1MiB' }], snapshots: [{ name: 'a' }] },
      ],
    },
  ],
}

let session: LabSession
let vsphere: Vsphere
let hosts: SshHosts
let writing: DiskWriting
beforeAll(async () => {
  session = await openLabSession({ scenario })
  const { vcenter, ssh } = session.lab.endpoints
  vsphere = await connectVsphere({
    url: vcenter.url,
    user: session.lab.user,
    password: new Secret((await readFile(session.lab.passwordFile, 'utf8')).trim()),
    trust: { thumbprint: vcenter.thumbprint },
    clock: systemClock,
    log: silentLog,
  })
  const [shell] = ssh
  const key = { path: session.lab.sshKeyFile, text: new Secret(await readFile(session.lab.sshKeyFile, 'utf8')) }
  const host = {
    name: 'esx1',
    address: shell?.address ?? '',
    port: shell?.port ?? 0,
    user: 'root',
    login: async () => ({ key }),
    pin: async () => ({ fingerprints: [shell?.hostKey ?? ''] }),
  }
  hosts = createSshHosts([host], { clock: systemClock, log: silentLog })
  const transport = sshTransport({ hosts, endpoint: 'nowhere' })
  if (transport.writing === undefined) throw new Error('ssh does not write')
  writing = transport.writing
})
afterAll(async () => {
  await hosts[Symbol.asyncDispose]()
  await vsphere[Symbol.asyncDispose]()
  await session[Symbol.asyncDispose]()
})

async function targetOf(name: string): Promise<TargetDisk> {
  const [vm] = await selectVms(vsphere, [`name:${name}`])
  if (vm === undefined) throw new Error(`no VM ${name}`)
  const config = await describeVm(vsphere, vm)
  const [disk] = config.disks
  if (disk === undefined) throw new Error('no disk')
  return { config, disk }
}

const refusal = async (target: TargetDisk): Promise<string> => {
  const verdict = await writing.probe(target)
  return verdict.ok ? 'ok' : verdict.reason
}

describe('a disk written through the shell of its host', () => {
  test('holds what was written, and takes no space for the rest', async () => {
    const target = await targetOf('target')
    expect(await writing.probe(target)).toMatchObject({ ok: true, note: expect.stringContaining('esx1') })
    const pieces = [
      [0, randomBytes(3 * MIB)],
      [20 * MIB + 1536, randomBytes(70_000)],
      [48 * MIB - 512, randomBytes(512)],
    ] as const
    const sink = await writing.open(target)
    expect(sink.size).toBe(48 * MIB)
    await Promise.all(pieces.map(([offset, data]) => sink.write(offset, data)))
    await sink.write(30 * MIB, Buffer.alloc(4 * MIB))
    await sink.zero({ offset: 40 * MIB, length: 2 * MIB })
    await sink.flush()
    await sink[Symbol.asyncDispose]()
    const wanted = Buffer.alloc(48 * MIB)
    for (const [offset, data] of pieces) data.copy(wanted, offset)
    const path = join(session.lab.datastores['v6'] ?? '', 'target', 'target-flat.vmdk')
    const hash = createHash('sha256')
    for await (const piece of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(piece as Buffer)
    expect(hash.digest('hex')).toBe(createHash('sha256').update(wanted).digest('hex'))
    expect((await stat(path)).blocks * 512).toBeLessThan(5 * MIB)
    await session.expectClean()
  })

  test('is refused while the VM runs, on a snapshot, or with nothing but dd', async () => {
    expect(await refusal(await targetOf('running'))).toBe('running is not powered off.')
    expect(await refusal(await targetOf('frozen'))).toBe('scsi0:0 of frozen stands on a snapshot.')
    const target = await targetOf('target')
    const rule = await session.lab.control.fault({ on: 'ssh:exec', object: 'python3', ssh: 'missing' })
    expect(await refusal(target)).toContain('Nothing on the host can write')
    await session.lab.control.clearFaults(rule)
    expect(await refusal({ ...target, disk: { ...target.disk, capacityBytes: 47 * MIB } })).toContain('are not the disk vSphere describes')
    expect(await refusal(target)).toBe('ok')
  })
})
