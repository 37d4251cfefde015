import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Lab, type LabEndpoint, startLab } from '../../src/lab/index.ts'
import { describePeer } from '../peer.ts'

const run = promisify(execFile)

/** VMware's own command line against the whole lab: every command of the backup field that govc 0.24.2 has. */
describePeer('govc', "govc drives the lab's vCenter", (govc) => {
  let directory: string
  let lab: Lab
  let ask: Ask

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lab-govc-'))
    lab = await startLab({ directory: join(directory, 'lab') })
    ask = await asker(govc, lab, lab.endpoints.vcenter, directory)
  })
  afterAll(async () => {
    await lab[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })

  it('says what it is', async () => {
    const about = await ask('about')
    expect(about).toMatch(/API type:\s+VirtualCenter/)
    expect(about).toMatch(/API version:\s+8\.0\.3/)
    expect(about).toMatch(/UUID:\s+[0-9a-f-]{36}/)
  })

  it('lists and finds', async () => {
    expect(await ask('ls', '/DC1/vm')).toContain('/DC1/vm/Web')
    expect(await ask('ls', '/DC1/host/Cluster1')).toContain('/DC1/host/Cluster1/esx1.lab')
    expect(await ask('ls', '/DC1/datastore')).toContain('/DC1/datastore/vmfs1')
    expect(await ask('ls', '/DC1/network')).toContain('/DC1/network/VM Network')
    const machines = await ask('find', '/', '-type', 'm')
    for (const vm of ['/DC1/vm/Web/web01', '/DC1/vm/Databases/db01', '/DC1/vm/Odd/a%2fb 100%25', '/DC1/vm/Odd/Deep er/Büro Größe'])
      expect(machines).toContain(vm)
    expect(await ask('find', '/', '-type', 's')).toContain('/DC1/datastore/nfs1')
  })

  it('shows VMs by path, uuid and address', async () => {
    const info = await ask('vm.info', '-e', '-r', '/DC1/vm/Web/web01')
    expect(info).toMatch(/Name:\s+web01/)
    expect(info).toMatch(/Power state:\s+poweredOn/)
    expect(info).toMatch(/Host:\s+esx1\.lab/)
    expect(info).toMatch(/Storage:\s+vmfs1/)
    const uuid = /UUID:\s+([0-9a-f-]{36})/.exec(info)?.[1] ?? 'none'
    expect(await ask('vm.info', '-vm.uuid', uuid)).toContain('web01')
    expect(await ask('vm.info', '-vm.ip', '10.0.0.11')).toContain('web01')
    expect(await ask('vm.info', '-vm.dns', 'web01.lab')).toContain('web01')
    expect(await ask('vm.info', '-vm.ipath', '/DC1/vm/Web/web01')).toContain('web01')
    expect(await ask('vm.ip', '/DC1/vm/Web/web01')).toContain('10.0.0.11')
    expect(await ask('object.collect', '-s', '/DC1/vm/Web/web01', 'runtime.powerState')).toContain('poweredOn')
  })

  it('makes, shows, reverts and removes snapshots', async () => {
    const vm = '/DC1/vm/Databases/db01'
    await ask('snapshot.create', '-vm', vm, '-m=false', '-q=true', '-d', 'by govc', 'first')
    await ask('snapshot.create', '-vm', vm, '-m=false', 'second')
    const tree = await ask('snapshot.tree', '-vm', vm, '-i')
    expect(tree).toContain('first')
    expect(tree).toContain('second')
    await ask('snapshot.remove', '-vm', vm, 'second')
    expect(await ask('snapshot.tree', '-vm', vm)).not.toContain('second')
    await ask('snapshot.revert', '-vm', vm, 'first')
    await ask('snapshot.remove', '-vm', vm, '*')
    expect(await ask('snapshot.tree', '-vm', vm)).not.toContain('first')
  })

  it('works with devices', async () => {
    const vm = '/DC1/vm/Web/web01'
    expect(await ask('device.ls', '-vm', vm)).toMatch(/disk-1000-0\s+VirtualDisk/)
    const before = await ask('device.info', '-vm', vm, 'disk-*')
    expect(before).toMatch(/Summary:\s+98,304 KB/)
    await ask('vm.disk.create', '-vm', vm, '-name', 'web01/govc-extra', '-size', '8MB', '-ds', 'vmfs1')
    const with3 = await ask('device.ls', '-vm', vm)
    const extra = [...with3.matchAll(/^(disk-\S+)/gm)].map((match) => match[1] ?? '').at(-1) ?? ''
    expect(extra).not.toBe('')
    expect(with3).not.toBe(before)
    await ask('device.remove', '-vm', vm, extra)
    expect(await ask('device.ls', '-vm', vm)).not.toContain(extra)
  })

  it('changes, stops and starts a VM, and refuses what its state forbids', async () => {
    const vm = '/DC1/vm/no-tools'
    await ask('vm.change', '-vm', vm, '-annotation', 'seen by govc')
    expect(await ask('object.collect', '-s', vm, 'config.annotation')).toContain('seen by govc')
    await ask('vm.power', '-off', vm)
    await expect(ask('vm.power', '-off', vm)).rejects.toThrow(/powered off|cannot be performed/i)
    await ask('vm.power', '-on', vm)
    expect(await ask('vm.info', vm)).toMatch(/poweredOn/)
  })

  it('makes, unregisters, registers and destroys a VM', async () => {
    await ask(
      'vm.create',
      '-ds',
      'restore1',
      '-host',
      '/DC1/host/Cluster1/esx2.lab',
      '-pool',
      '/DC1/host/Cluster1/Resources',
      '-folder',
      '/DC1/vm',
      '-on=false',
      '-m',
      '64',
      '-c',
      '1',
      '-g',
      'otherGuest64',
      '-net',
      'VM Network',
      '-disk',
      '8MB',
      'govc-vm',
    )
    const vm = '/DC1/vm/govc-vm'
    expect(await ask('vm.info', vm)).toContain('govc-vm')
    await ask('vm.unregister', vm)
    expect(await ask('find', '/', '-type', 'm')).not.toContain('govc-vm')
    await ask(
      'vm.register',
      '-ds',
      'restore1',
      '-host',
      '/DC1/host/Cluster1/esx2.lab',
      '-pool',
      '/DC1/host/Cluster1/Resources',
      '-folder',
      '/DC1/vm',
      'govc-vm/govc-vm.vmx',
    )
    expect(await ask('vm.info', vm)).toContain('govc-vm')
    await ask('vm.destroy', vm)
    expect(await ask('datastore.ls', '-ds', 'restore1')).not.toContain('govc-vm')
  })

  it('handles datastore files byte for byte', async () => {
    const source = join(directory, 'upload.bin')
    const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, index) => (index * 7) % 251))
    await writeFile(source, bytes)
    await ask('datastore.mkdir', '-ds', 'nfs1', 'govc dir')
    await ask('datastore.upload', '-ds', 'nfs1', source, 'govc dir/up load.bin')
    expect(await ask('datastore.ls', '-ds', 'nfs1', '-l', 'govc dir')).toContain('up load.bin')
    await ask('datastore.download', '-ds', 'nfs1', 'govc dir/up load.bin', join(directory, 'back.bin'))
    expect((await readFile(join(directory, 'back.bin'))).equals(bytes)).toBe(true)
    await ask('datastore.disk.create', '-ds', 'nfs1', '-size', '4M', 'govc dir/d.vmdk')
    expect(await ask('datastore.disk.info', '-ds', 'nfs1', 'govc dir/d.vmdk')).toContain('d.vmdk')
    await ask('datastore.rm', '-ds', 'nfs1', 'govc dir')
    await expect(ask('datastore.ls', '-ds', 'nfs1', 'govc dir')).rejects.toThrow(/not found/i)
    expect(await ask('datastore.info', 'vmfs1')).toMatch(/Type:\s+VMFS/)
  })

  it('exports a VM and imports it again', async () => {
    await ask('export.ovf', '-vm', '/DC1/vm/old01', '-sha', '256', directory)
    const ovf = await readFile(join(directory, 'old01', 'old01.ovf'), 'utf8')
    expect(ovf).toContain('<Envelope')
    await ask(
      'import.ovf',
      '-ds',
      'nfs1',
      '-pool',
      '/DC1/host/Cluster1/Resources',
      '-folder',
      '/DC1/vm',
      '-name',
      'old01-copy',
      join(directory, 'old01', 'old01.ovf'),
    )
    const [old] = await lab.control.sha256('old01')
    const [copy] = await lab.control.sha256('old01-copy')
    expect(copy?.sha256).toBe(old?.sha256)
    await ask('vm.destroy', '/DC1/vm/old01-copy')
  })

  it('reads custom fields, events and tasks', async () => {
    await ask('fields.add', '-type', 'VirtualMachine', 'last backup')
    await ask('fields.set', 'last backup', 'yesterday', '/DC1/vm/Web/web01')
    expect(await ask('fields.info', '-n', 'last backup', '/DC1/vm/Web/web01')).toContain('yesterday')
    expect(await ask('events', '-n', '50', '/DC1/vm/Databases/db01')).toMatch(/\[info\] Task: VirtualMachine\.createSnapshot/)
    expect(await ask('events', '-n', '50', '/DC1/vm/no-tools')).toMatch(/\[info\] no-tools is powered off/)
    expect(await ask('tasks')).toMatch(/Task\s+Target/)
  })

  it('reads tags over REST', async () => {
    expect(await ask('tags.ls')).toContain('gold')
    expect(await ask('tags.attached.ls', 'gold')).toMatch(/VirtualMachine:vm-\d+/)
  })

  it('blocks and unblocks a method', async () => {
    const vm = '/DC1/vm/Web/web01'
    await ask('object.method', '-name', 'RelocateVM_Task', '-enable=false', vm)
    expect(await ask('object.collect', '-s', vm, 'disabledMethod')).toContain('RelocateVM_Task')
    await ask('object.method', '-name', 'RelocateVM_Task', '-enable=true', vm)
    expect(await ask('object.collect', '-s', vm, 'disabledMethod')).not.toContain('RelocateVM_Task')
  })

  it('keeps a session over commands, and a wrong password opens none', async () => {
    const env = { GOVC_PERSIST_SESSION: 'true' }
    const first = await asker(govc, lab, lab.endpoints.vcenter, directory, env)
    await first('about')
    await first('ls', '/DC1/vm')
    const wrong = await asker(govc, lab, lab.endpoints.vcenter, directory, { GOVC_PASSWORD: 'wrong' })
    await expect(wrong('about')).rejects.toThrow(/incorrect user name or password/)
  })
})

describePeer('govc', "govc drives the lab's ESXi", (govc) => {
  it('finds the host’s own machines and works with them', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'lab-govc-'))
    try {
      await using lab = await startLab({ directory: join(directory, 'lab') })
      const ask = await asker(govc, lab, lab.endpoints.esxi, directory)
      expect(await ask('about')).toMatch(/API type:\s+HostAgent/)
      expect(await ask('ls', '/ha-datacenter/vm')).toContain('edge01')
      await ask('snapshot.create', '-vm', 'edge01', '-m=false', 'first')
      expect(await ask('snapshot.tree', '-vm', 'edge01')).toContain('first')
      await ask('snapshot.remove', '-vm', 'edge01', 'first')
      expect(await ask('datastore.ls', '-ds', 'local9', 'edge01')).toContain('edge01.vmx')
      await ask('export.ovf', '-vm', 'edge02', directory)
      expect(await readFile(join(directory, 'edge02', 'edge02.ovf'), 'utf8')).toContain('<Envelope')
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
})

type Ask = (...args: readonly string[]) => Promise<string>

async function asker(govc: string, lab: Lab, endpoint: LabEndpoint, home: string, more: Record<string, string> = {}): Promise<Ask> {
  const password = (await readFile(lab.passwordFile, 'utf8')).trim()
  const env = {
    HOME: home,
    GOVC_URL: `${endpoint.url}/sdk`,
    GOVC_USERNAME: lab.user,
    GOVC_PASSWORD: password,
    GOVC_INSECURE: '1',
    GOVC_PERSIST_SESSION: 'false',
    ...(endpoint === lab.endpoints.vcenter ? { GOVC_DATACENTER: 'DC1' } : {}),
    ...more,
  }
  return async (...args) => (await run(govc, [...args], { env, timeout: 60_000 })).stdout
}
