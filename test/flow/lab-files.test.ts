import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { type Lab, startLab } from '../../src/lab/index.ts'
import { digestOf, openView, Datastore } from '../../src/lab/storage/index.ts'
import { find, findAll, LabClient } from './lab-client.ts'

const scenario = {
  taskMs: 0,
  leaseTimeoutSeconds: 2,
  sessionTimeoutSeconds: 60,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }, { name: 'esx2' }],
      datastores: [{ name: 'ds' }, { name: 'other', type: 'NFS', hosts: ['esx2'] }],
      vms: [
        { name: 'on', host: 'esx1', disks: [{ size: '8MiB', content: 'random' }] },
        {
          name: 'off',
          host: 'esx1',
          datastore: 'ds',
          power: 'poweredOff',
          disks: [
            { size: '8MiB', content: 'random' },
            { size: '4MiB', controller: 'lsilogic', bus: 1, thin: false },
          ],
        },
        { name: 'a/b 100%', host: 'esx1', datastore: 'ds', power: 'poweredOff', disks: [{ size: '4MiB' }] },
      ],
    },
    {
      name: 'solo',
      standalone: true,
      hosts: [{ name: 'esx9' }],
      datastores: [{ name: 'local' }],
      vms: [{ name: 'edge', power: 'poweredOff', disks: [{ size: '4MiB', content: 'random' }] }],
    },
  ],
}

describe('files, leases and changes', () => {
  let directory = ''
  let lab: Lab
  let client: LabClient
  const ids = new Map<string, string>()
  const id = (name: string): string => ids.get(name) ?? ''
  const folder = (path: string, store = 'ds'): string => `/folder/${path}?dcPath=DC&dsName=${store}`

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'vcb-lab-'))
    lab = await startLab({ directory, scenario })
    client = await LabClient.login(lab)
    for (const vm of (await lab.control.state()).vms) ids.set(vm.name, vm.moref)
  })
  afterAll(async () => {
    await lab[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })

  test('/folder asks for a session, serves ranges, and keeps to the datastore', async () => {
    const stranger = new LabClient(lab.endpoints.vcenter)
    expect((await stranger.http('GET', folder('off/off.vmx'))).status).toBe(401)
    const local = await readFile(join(lab.datastores['ds'] ?? '', 'off', 'off-flat.vmdk'))
    const whole = await client.http('GET', folder('off/off-flat.vmdk'))
    expect(whole.status).toBe(200)
    expect(whole.body.equals(local)).toBe(true)
    const part = await client.http('GET', folder('off/off-flat.vmdk'), { headers: { range: 'bytes=1000-70000' } })
    expect(part.status).toBe(206)
    expect(part.headers['content-range']).toBe(`bytes 1000-70000/${local.length}`)
    expect(part.body.equals(local.subarray(1000, 70_001))).toBe(true)
    expect((await client.http('GET', folder('off/off-flat.vmdk'), { headers: { range: `bytes=${local.length}-` } })).status).toBe(416)
    expect((await client.http('HEAD', folder('off/off-flat.vmdk'))).headers['content-length']).toBe(String(local.length))
    expect((await client.http('GET', folder('off/%2e%2e/%2e%2e/password'))).status).toBe(400)
    expect((await client.http('GET', folder('off%2f..%2f..%2fpassword'))).status).toBe(400)
    expect((await client.http('GET', folder('none/none.vmx'))).status).toBe(404)
  })

  test('/folder refuses what a running VM holds; the frozen parent can be read', async () => {
    expect((await client.http('GET', folder('on/on-flat.vmdk'))).status).toBe(500)
    expect((await client.http('GET', folder('on/on.vmdk'))).status).toBe(200)
    expect((await client.http('GET', folder('on/on.vswp'))).status).toBe(500)
    const snapshot = await client.takeSnapshot(id('on'), 'open')
    const read = await client.http('GET', folder('on/on-flat.vmdk'))
    expect(read.status).toBe(200)
    expect(createHash('sha256').update(read.body).digest('hex')).toBe((await lab.control.sha256('on', { snapshot }))[0]?.sha256)
    expect((await client.http('GET', folder('on/on-000001-sesparse.vmdk'))).status).toBe(500)
    expect((await client.http('PUT', folder('on/on-flat.vmdk'), { body: 'x' })).status).toBe(500)
    expect((await client.http('DELETE', folder('on/on-flat.vmdk'))).status).toBe(500)
    await client.removeSnapshot(snapshot)
  })

  test('/folder PUT and DELETE', async () => {
    expect((await client.http('PUT', folder('nowhere/x.txt'), { body: 'x' })).status).toBe(404)
    expect((await client.http('PUT', folder('off/x%20y%25.txt'), { body: 'hello' })).status).toBe(201)
    expect((await client.http('PUT', folder('off/x%20y%25.txt'), { body: 'hello again' })).status).toBe(200)
    expect((await client.http('GET', folder('off/x%20y%25.txt'))).body.toString()).toBe('hello again')
    expect((await client.http('DELETE', folder('off/x%20y%25.txt'))).status).toBe(204)
    expect((await client.http('GET', folder('off/x%20y%25.txt'))).status).toBe(404)
  })

  test('fault rules break downloads as they are told', async () => {
    const path = folder('off/off-flat.vmdk')
    const cut = await lab.control.fault({ on: 'folder:GET', object: 'off', cutAfterBytes: 300_000, times: 1 })
    await expect(client.http('GET', path)).rejects.toThrow(/aborted|hang up|reset/i)
    expect((await client.http('GET', path)).status).toBe(200)
    await lab.control.clearFaults(cut)
    await lab.control.fault({ on: 'folder:GET', shortAfterBytes: 1000, times: 1 })
    await expect(client.http('GET', path)).rejects.toThrow()
    await lab.control.fault({ on: 'folder:GET', refuseRange: true, times: 1 })
    expect((await client.http('GET', path, { headers: { range: 'bytes=0-9' } })).status).toBe(200)
    await lab.control.fault({ on: 'folder:GET', status: 503, times: 1 })
    expect((await client.http('GET', path)).status).toBe(503)
    expect((await lab.control.faults()).every((entry) => entry.struck === 1)).toBe(true)
    await lab.control.clearFaults()
  })

  test('fault rules break SOAP calls: fault, task error, lost reply, ended session', async () => {
    await lab.control.fault({ on: 'PowerOnVM_Task', fault: 'InsufficientResourcesFault', times: 1 })
    await expect(client.task('PowerOnVM_Task', client.vm(id('off')))).rejects.toThrow('InsufficientResourcesFault')
    await lab.control.fault({ on: 'CreateSnapshot_Task', nth: 2, taskError: 'SnapshotFault' })
    await client.removeSnapshot(await client.takeSnapshot(id('off'), 'ok'))
    await expect(client.takeSnapshot(id('off'), 'bad')).rejects.toThrow('SnapshotFault')
    await lab.control.fault({ on: 'CreateSnapshot_Task', cut: 'after', times: 1 })
    await expect(client.takeSnapshot(id('off'), 'lost reply')).rejects.toThrow(/hang up|reset/i)
    let snapshots: readonly { moref: string; name: string }[] = []
    for (let tries = 0; snapshots.length === 0 && tries < 200; tries++) {
      await systemClock.sleep(20)
      const state = await lab.control.state()
      // The task whose reference was lost goes on; the snapshot shows before it has ended.
      if (state.tasks.length === 0) snapshots = state.vms.find((vm) => vm.name === 'off')?.snapshots ?? []
    }
    expect(snapshots.map((snapshot) => snapshot.name)).toEqual(['lost reply'])
    await lab.control.clearFaults()
    await client.removeSnapshot(snapshots[0]?.moref ?? '')
    await lab.control.fault({ on: 'FindByUuid', expireSession: true, times: 1 })
    await expect(
      client.call('FindByUuid', '<_this type="SearchIndex">SearchIndex</_this>', '<uuid>x</uuid><vmSearch>true</vmSearch>'),
    ).rejects.toThrow('NotAuthenticated')
    client = await LabClient.login(lab)
    await lab.control.clearFaults()
  })

  test('an export lease gives whole streamOptimized disks and their digests; an import lease takes them back', async () => {
    const lease = find(await client.call('ExportVm', client.vm(id('off'))), 'returnval')?.text ?? ''
    const self = `<_this type="HttpNfcLease">${lease}</_this>`
    const urls = await deviceUrls(client, lease)
    expect(urls).toHaveLength(2)
    expect(urls[0]?.url.startsWith(`${lab.endpoints.esxi.url}/nfc/`)).toBe(true)
    await expect(client.task('PowerOnVM_Task', client.vm(id('off')))).rejects.toThrow('InvalidState')
    const host = new LabClient(lab.endpoints.esxi)
    const streams: Buffer[] = []
    for (const { url } of urls) streams.push((await host.http('GET', new URL(url).pathname)).body)
    await client.call('HttpNfcLeaseProgress', self, '<percent>50</percent>')
    const manifest = await client.call('HttpNfcLeaseGetManifest', self)
    expect([...findAll(manifest, 'sha1')].map((sha1) => sha1.text)).toEqual(
      streams.map((stream) => createHash('sha1').update(stream).digest('hex')),
    )
    await client.call('HttpNfcLeaseComplete', self)

    const devices = streams
      .map(
        (_stream, index) =>
          `<deviceChange><operation>add</operation><fileOperation>create</fileOperation><device xsi:type="VirtualDisk"><key>${-10 - index}</key><backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName></fileName><diskMode>persistent</diskMode><thinProvisioned>true</thinProvisioned></backing><controllerKey>-1</controllerKey><unitNumber>${index}</unitNumber><capacityInKB>${index === 0 ? 8192 : 4096}</capacityInKB></device></deviceChange>`,
      )
      .join('')
    const spec = (name: string): string =>
      `<spec xsi:type="VirtualMachineImportSpec"><configSpec><name>${name}</name><files><vmPathName>[ds]</vmPathName></files><numCPUs>1</numCPUs><memoryMB>64</memoryMB><deviceChange><operation>add</operation><device xsi:type="ParaVirtualSCSIController"><key>-1</key><busNumber>0</busNumber><sharedBus>noSharing</sharedBus></device></deviceChange>${devices}</configSpec></spec>`
    const imported = find(await client.call('ImportVApp', pool, spec('back') + vmFolder()), 'returnval')?.text ?? ''
    const targets = await deviceUrls(client, imported)
    for (const [index, { url }] of targets.entries())
      expect((await host.http('POST', new URL(url).pathname, { body: streams[index] ?? '' })).status).toBe(201)
    await client.call('HttpNfcLeaseComplete', `<_this type="HttpNfcLease">${imported}</_this>`)
    const digests = async (vm: string): Promise<string[]> => (await lab.control.sha256(vm)).map((disk) => disk.sha256)
    expect(await digests('back')).toEqual(await digests('off'))

    const aborted = find(await client.call('ImportVApp', pool, spec('aborted') + vmFolder()), 'returnval')?.text ?? ''
    const [target] = await deviceUrls(client, aborted)
    expect(
      (await host.http('POST', new URL(target?.url ?? '').pathname, { body: (streams[0] ?? Buffer.alloc(0)).subarray(0, 100_000) })).status,
    ).toBe(500)
    await client.call('HttpNfcLeaseAbort', `<_this type="HttpNfcLease">${aborted}</_this>`)
    expect((await lab.control.state()).vms.map((vm) => vm.name)).not.toContain('aborted')
    expect((await client.http('GET', folder('aborted/aborted.vmx'))).status).toBe(404)

    const silent = find(await client.call('ImportVApp', pool, spec('silent') + vmFolder()), 'returnval')?.text ?? ''
    await deviceUrls(client, silent)
    for (let tries = 0; (await client.text('HttpNfcLease', silent, 'state')) !== 'error' && tries < 100; tries++)
      await systemClock.sleep(100)
    expect(await client.text('HttpNfcLease', silent, 'state')).toBe('error')
    await expect(
      client.call('HttpNfcLeaseProgress', `<_this type="HttpNfcLease">${silent}</_this>`, '<percent>1</percent>'),
    ).rejects.toThrow('Timedout')
    expect((await lab.control.state()).vms.map((vm) => vm.name)).not.toContain('silent')
  })

  test('qemu-img reads a redo log chain of the lab as the lab does', async (context) => {
    const qemu = await promisify(execFile)('qemu-img', ['--version']).catch(() => undefined)
    if (qemu === undefined) context.skip('qemu-img is not installed')
    const snapshot = await client.takeSnapshot(id('off'), 'chain')
    await lab.control.write('off', { percent: 20, disk: 2000 })
    const raw = join(directory, 'chain.raw')
    await promisify(execFile)('qemu-img', ['convert', '-f', 'vmdk', '-O', 'raw', join(lab.datastores['ds'] ?? '', 'off', 'off.vmdk'), raw])
    expect(
      createHash('sha256')
        .update(await readFile(raw))
        .digest('hex'),
    ).toBe((await lab.control.sha256('off', { snapshot, disk: 2000 }))[0]?.sha256)
    using view = openView(new Datastore({ name: 'ds', type: 'VMFS6', directory: lab.datastores['ds'] ?? '' }), 'off/off-000001.vmdk')
    expect((await digestOf(view)).hex).toBe((await lab.control.sha256('off', { disk: 2000 }))[0]?.sha256)
    await client.removeSnapshot(snapshot)
  })

  test('registers what its own VMX describes, under the same identity', async () => {
    const before = await client.read('VirtualMachine', id('off'), 'config.uuid', 'config.instanceUuid', 'config.hardware.device')
    const image = await lab.control.sha256('off')
    await client.call('UnregisterVM', client.vm(id('off')))
    await expect(client.read('VirtualMachine', id('off'), 'name')).rejects.toThrow('ManagedObjectNotFound')
    const again = await client.task(
      'RegisterVM_Task',
      vmFolderThis(),
      `<path>[ds] off/off.vmx</path><asTemplate>false</asTemplate>${poolArgument}`,
    )
    ids.set('off', again?.text ?? '')
    const after = await client.read('VirtualMachine', id('off'), 'config.uuid', 'config.instanceUuid', 'config.hardware.device')
    expect(after.get('config.uuid')?.text).toBe(before.get('config.uuid')?.text)
    expect(after.get('config.instanceUuid')?.text).toBe(before.get('config.instanceUuid')?.text)
    const labels = (xml: typeof after): string[] =>
      [...(xml.get('config.hardware.device')?.children ?? [])]
        .filter((device) => device.type === 'VirtualDisk')
        .map((device) => `${find(device, 'key')?.text} ${find(device, 'fileName')?.text} ${find(device, 'uuid')?.text?.toLowerCase()}`)
    expect(labels(after)).toEqual(labels(before))
    expect(await lab.control.sha256('off')).toEqual(image)
    await expect(
      client.task('RegisterVM_Task', vmFolderThis(), `<path>[ds] off/off.vmx</path><asTemplate>false</asTemplate>${poolArgument}`),
    ).rejects.toThrow('AlreadyExists')
    await expect(
      client.task('RegisterVM_Task', vmFolderThis(), `<path>[ds] none/none.vmx</path><asTemplate>false</asTemplate>${poolArgument}`),
    ).rejects.toThrow('FileNotFound')
  })

  test('adds, grows and destroys disks; a failed change leaves the VM as it was', async () => {
    const change = (changes: string) => client.task('ReconfigVM_Task', client.vm(id('off')), `<spec>${changes}</spec>`)
    const disk = (unit: number, extra = ''): string =>
      `<deviceChange><operation>add</operation><fileOperation>create</fileOperation><device xsi:type="VirtualDisk"><key>-1</key><backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName></fileName><diskMode>persistent</diskMode></backing><controllerKey>1000</controllerKey><unitNumber>${unit}</unitNumber><capacityInKB>2048</capacityInKB></device></deviceChange>${extra}`
    await change(disk(5))
    const state = (): Promise<readonly { key: number; fileName: string }[]> =>
      lab.control.state().then((all) => all.vms.find((vm) => vm.moref === id('off'))?.disks ?? [])
    expect((await state()).map((entry) => entry.key)).toContain(2005)
    const before = await state()
    await expect(change(disk(6, disk(5)))).rejects.toThrow('InvalidDeviceSpec')
    expect(await state()).toEqual(before)
    expect((await client.http('GET', folder('off/off_3.vmdk'))).status).toBe(404)
    await change(
      '<deviceChange><operation>remove</operation><fileOperation>destroy</fileOperation><device xsi:type="VirtualDisk"><key>2005</key><controllerKey>1000</controllerKey><unitNumber>5</unitNumber><capacityInKB>2048</capacityInKB></device></deviceChange>',
    )
    expect((await client.http('GET', folder('off/off_2.vmdk'))).status).toBe(404)
  })

  test('a frozen disk attached to another VM is shown with its identity, and locks the removal until it is detached', async () => {
    const snapshot = await client.takeSnapshot(id('on'), 'hot-add')
    const [frozen] = await client.frozenDisks(snapshot)
    const change = (changes: string) =>
      client.task('ReconfigVM_Task', client.vm(id('off')), `<spec><deviceChange>${changes}</deviceChange></spec>`)
    await change(
      `<operation>add</operation><device xsi:type="VirtualDisk"><key>-1</key><backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>${frozen?.fileName}</fileName><diskMode>independent_nonpersistent</diskMode></backing><controllerKey>1000</controllerKey><unitNumber>9</unitNumber><capacityInKB>0</capacityInKB></device>`,
    )
    const uuids = async (vm: string, key: number): Promise<string | undefined> => {
      const devices = (await client.read('VirtualMachine', id(vm), 'config.hardware.device')).get('config.hardware.device')
      const device = devices?.children.find((each) => find(each, 'key')?.text === String(key))
      return device === undefined ? undefined : find(device, 'uuid')?.text
    }
    expect(await uuids('off', 2009)).toBe(await uuids('on', frozen?.key ?? 0))
    await expect(client.removeSnapshot(snapshot)).rejects.toThrow('FileLocked')
    expect(await client.text('VirtualMachine', id('on'), 'runtime.consolidationNeeded')).toBe('true')
    await expect(
      change(
        '<operation>remove</operation><fileOperation>destroy</fileOperation><device xsi:type="VirtualDisk"><key>2009</key><capacityInKB>0</capacityInKB></device>',
      ),
    ).rejects.toThrow('FileLocked')
    await change(
      '<operation>remove</operation><device xsi:type="VirtualDisk"><key>2009</key><controllerKey>1000</controllerKey><unitNumber>9</unitNumber><capacityInKB>0</capacityInKB></device>',
    )
    await client.task('ConsolidateVMDisks_Task', client.vm(id('on')))
    expect(await client.text('VirtualMachine', id('on'), 'runtime.consolidationNeeded')).toBe('false')
    expect(await lab.control.fsck('on')).toMatchObject({ ok: true })
  })

  test('a viewer may look and nothing else; disabled methods stay disabled until enabled', async () => {
    const viewer = await LabClient.login(lab, 'vcenter', true)
    expect(await viewer.text('VirtualMachine', id('on'), 'name')).toBe('on')
    await expect(viewer.takeSnapshot(id('on'), 'no')).rejects.toThrow('NoPermission')
    expect((await viewer.http('GET', folder('off/off.vmx'))).status).toBe(403)
    const manager = '<_this type="AuthorizationManager">AuthorizationManager</_this>'
    const entity = `<entity type="VirtualMachine">${id('on')}</entity>`
    await client.call(
      'DisableMethods',
      manager,
      `${entity}<method><method>RelocateVM_Task</method><reasonId>backup</reasonId></method><sourceId>vcb</sourceId>`,
    )
    const move = client.task('RelocateVM_Task', client.vm(id('on')), '<spec><host type="HostSystem">none</host></spec>')
    await expect(move).rejects.toThrow('MethodDisabled')
    await client.call('EnableMethods', manager, `${entity}<method>RelocateVM_Task</method><sourceId>vcb</sourceId>`)
    await expect(client.task('RelocateVM_Task', client.vm(id('on')), '<spec><host type="HostSystem">none</host></spec>')).rejects.toThrow(
      'ManagedObjectNotFound',
    )
  })

  test('names with slash and per cent are escaped in names and paths', async () => {
    expect(await client.text('VirtualMachine', id('a/b 100%'), 'name')).toBe('a%2fb 100%25')
    const found = await client.call(
      'FindByInventoryPath',
      '<_this type="SearchIndex">SearchIndex</_this>',
      '<inventoryPath>/DC/vm/a%2fb 100%25</inventoryPath>',
    )
    expect(find(found, 'returnval')?.text).toBe(id('a/b 100%'))
  })

  test('the ESXi endpoint shows its own host only, with a host’s ids', async () => {
    const esxi = await LabClient.login(lab, 'esxi')
    const edge =
      find(
        await esxi.call(
          'FindByInventoryPath',
          '<_this type="SearchIndex">ha-searchindex</_this>',
          '<inventoryPath>ha-datacenter/vm/edge</inventoryPath>',
        ),
        'returnval',
      )?.text ?? ''
    expect(edge).toMatch(/^\d+$/)
    expect(
      find(
        await client.call(
          'FindByInventoryPath',
          '<_this type="SearchIndex">SearchIndex</_this>',
          '<inventoryPath>/solo/vm/edge</inventoryPath>',
        ),
        'returnval',
      ),
    ).toBeUndefined()
    const snapshot = await esxi.takeSnapshot(edge, 'direct')
    expect(snapshot).toMatch(/^\d+-snapshot-1$/)
    expect((await esxi.http('GET', '/folder/edge/edge-flat.vmdk?dsName=local')).status).toBe(200)
    const lease = find(await esxi.call('ExportSnapshot', esxi.snapshot(snapshot)), 'returnval')?.text ?? ''
    const [url] = await deviceUrls(esxi, lease)
    expect(url?.url).toMatch(/^https:\/\/\*\/ha-nfc\//)
    await esxi.call('HttpNfcLeaseAbort', `<_this type="HttpNfcLease">${lease}</_this>`)
    await esxi.removeSnapshot(snapshot)
  })

  test('an upload that breaks off leaves nothing', async () => {
    const path = folder('off/broken.bin')
    const body = Buffer.alloc(1_000_000, 1)
    const broken = client.http('PUT', path, { headers: { 'content-length': String(body.length) }, body, cutAfter: 400_000 })
    await expect(broken).rejects.toThrow('cut by the client')
    const local = join(lab.datastores['ds'] ?? '', 'off', 'broken.bin')
    let left = true
    for (let tries = 0; left && tries < 100; tries++) {
      await systemClock.sleep(20)
      left = await stat(local).then(
        () => true,
        () => false,
      )
    }
    expect(left).toBe(false)
    expect((await client.http('GET', path)).status).toBe(404)
  })

  const pool = '<_this type="ResourcePool">resgroup-8</_this>'
  const poolArgument = '<pool type="ResourcePool">resgroup-8</pool>'
  const vmFolder = (): string => '<folder type="Folder">group-v3</folder>'
  const vmFolderThis = (): string => '<_this type="Folder">group-v3</_this>'
})

async function deviceUrls(client: LabClient, lease: string): Promise<{ url: string }[]> {
  for (let tries = 0; tries < 200; tries++) {
    const state = await client.text('HttpNfcLease', lease, 'state')
    if (state === 'error') throw new Error('the lease failed')
    if (state === 'ready') break
    await systemClock.sleep(10)
  }
  const info = (await client.read('HttpNfcLease', lease, 'info')).get('info')
  return info === undefined ? [] : [...findAll(info, 'deviceUrl')].map((entry) => ({ url: find(entry, 'url')?.text ?? '' }))
}
