import { afterAll, beforeAll, expect, it } from 'vitest'
import { describeVm, listVms, protectionOf, selectVms } from '../../src/inventory/index.ts'
import {
  anyValue,
  customValues,
  data,
  datacenterOf,
  findPlacement,
  listNetworks,
  missingPrivileges,
  runTask,
  setCustomValue,
  vmMoRef,
  type Vsphere,
} from '../../src/vsphere/index.ts'
import { describePeer } from '../peer.ts'
import { startVcsim, type Vcsim } from './vcsim-server.ts'

describePeer('vcsim', "inventory of VMware's simulator", (program) => {
  let sim: Vcsim
  let vsphere: Vsphere
  const names = async (...expressions: string[]): Promise<string[]> =>
    (await selectVms(vsphere, expressions, { bulk: true })).map(({ path }) => path)

  beforeAll(async () => {
    sim = await startVcsim(program, ['-dc', '2', '-vm', '3', '-folder', '1', '-app', '1', '-pg', '2'])
    vsphere = await sim.connect()
  })
  afterAll(async () => {
    await vsphere[Symbol.asyncDispose]()
    await sim[Symbol.asyncDispose]()
  })

  it('lists every VM with its path, vApps and folders included', async () => {
    const rows = await Array.fromAsync(listVms(vsphere))
    expect(rows).toHaveLength(18)
    expect(rows.map(({ vm }) => vm.path)).toEqual(
      expect.arrayContaining(['/DC0/vm/DC0_H0_VM0', '/F0/DC1/vm/F0/DC1_C0_RP0_VM2', '/DC0/vm/DC0_C0_APP0_VM0']),
    )
    expect(rows.every(({ problem, disks, host }) => problem === undefined && disks === 1 && host !== '')).toBe(true)
  })

  it('selects by name, glob, folder, uuid, moref, power and exclusion', async () => {
    const [vm] = await selectVms(vsphere, ['DC0_H0_VM1'])
    if (vm === undefined) throw new Error('nothing selected')
    expect(vm).toMatchObject({ name: 'DC0_H0_VM1', path: '/DC0/vm/DC0_H0_VM1', vcenterUuid: vsphere.about.instanceUuid })
    expect(await names('DC1_H0_*')).toEqual([0, 1, 2].map((n) => `/F0/DC1/vm/F0/DC1_H0_VM${n}`))
    expect(await names('folder:/F0/DC1/vm/F0, !*_VM0, !*_APP*')).toHaveLength(4)
    expect(await names('folder:/F0/DC1')).toHaveLength(9)
    expect(await names(`uuid:${vm.instanceUuid}`)).toEqual([vm.path])
    expect(await names(`uuid:${vm.biosUuid.toUpperCase()}`, `moref:${vm.moref}`)).toEqual([vm.path])
    expect(await names('power:on')).toHaveLength(18)
    await expect(selectVms(vsphere, ['power:off'])).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(selectVms(vsphere, ['DC0_H0_VM9'])).rejects.toMatchObject({ code: 'NOT_FOUND', subject: 'DC0_H0_VM9' })
  })

  it('keeps names with slashes, percent signs and Unicode, and refuses an ambiguous one', async () => {
    const awkward = 'a/b\\c 50%,ü"x'
    const [first, second] = await selectVms(vsphere, ['DC0_C0_RP0_VM0', 'DC1_C0_RP0_VM1'])
    if (first === undefined || second === undefined) throw new Error('nothing selected')
    for (const { moref } of [first, second]) await runTask(vsphere, 'Rename_Task', vmMoRef({ moref }), { newName: awkward })
    const escaped = `name:${awkward.replaceAll(/[\\, "]/g, '\\$&')}`
    await expect(selectVms(vsphere, [escaped])).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining(`moref:${first.moref}`),
    })
    const both = await selectVms(vsphere, [escaped], { bulk: true })
    expect(both.map(({ name }) => name)).toEqual([awkward, awkward])
    expect(both[0]?.path).toBe('/DC0/vm/a%2fb%5cc 50%25,ü"x')
  })

  it('finds a VM by the address of its guest', async () => {
    const [vm] = await selectVms(vsphere, ['DC0_H0_VM2'])
    if (vm === undefined) throw new Error('nothing selected')
    // The simulator takes guest addresses from extraConfig.
    const spec = data({ extraConfig: [data({ key: 'SET.guest.ipAddress', value: anyValue('xsd:string', '192.0.2.76') })] })
    await runTask(vsphere, 'ReconfigVM_Task', vmMoRef(vm), { spec })
    expect(await names('ip:192.0.2.76')).toEqual([vm.path])
    await expect(selectVms(vsphere, ['ip:192.0.2.77'])).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  it('describes a VM', async () => {
    const [vm] = await selectVms(vsphere, ['DC1_H0_VM0'])
    if (vm === undefined) throw new Error('nothing selected')
    const config = await describeVm(vsphere, vm)
    expect(config).toMatchObject({
      vm,
      powerState: 'poweredOn',
      isTemplate: false,
      hardwareVersion: 'vmx-13',
      host: { name: 'DC1_H0' },
      snapshotCount: 0,
    })
    expect(config.disks).toHaveLength(1)
    expect(config.disks[0]).toMatchObject({ backing: 'flat', diskMode: 'persistent', fileName: '[LocalDS_0] DC1_H0_VM0/disk1.vmdk' })
    expect(config.devices.find(({ macAddress }) => macAddress !== undefined)?.network).toMatch(/^DC1_DVPG/)
    expect(protectionOf(config).notProtected).toEqual([])
    expect((await datacenterOf(vsphere, vmMoRef(vm))).path).toBe('/F0/DC1')
  })

  it('finds places for a restore', async () => {
    const placement = await findPlacement(vsphere, { datacenter: 'DC0', cluster: 'DC0_C0', datastore: 'LocalDS_0' })
    expect(placement.datacenter.path).toBe('/DC0')
    expect(placement.host.name).toMatch(/^DC0_C0_H/)
    expect(placement.datastore.name).toBe('LocalDS_0')
    await expect(findPlacement(vsphere, {})).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('/F0/DC1') })
    await expect(findPlacement(vsphere, { datacenter: 'DC9' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(findPlacement(vsphere, { host: 'nowhere' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(findPlacement(vsphere, { datacenter: 'DC0', folder: 'none' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(findPlacement(vsphere, { datacenter: 'DC0' }, { neededBytes: 2 ** 52 })).rejects.toMatchObject({ code: 'CAPACITY' })
    const networks = await listNetworks(vsphere)
    expect(networks.find(({ name }) => name === 'VM Network')?.kind).toBe('standard')
    expect(networks.find(({ name }) => name === 'DC0_DVPG0')).toMatchObject({ kind: 'distributed', switchUuid: expect.stringMatching(/./) })
  })

  it('sets and reads a custom attribute, and knows missing privileges', async () => {
    const [vm] = await selectVms(vsphere, ['DC0_H0_VM1'])
    if (vm === undefined) throw new Error('nothing selected')
    await setCustomValue(vsphere, vmMoRef(vm), 'Last backup', '2026-11-22 & later')
    await setCustomValue(vsphere, vmMoRef(vm), 'Last backup', 'today')
    expect(await customValues(vsphere, vmMoRef(vm))).toEqual(new Map([['Last backup', 'today']]))
    expect(await missingPrivileges(vsphere, vsphere.service('rootFolder'), ['System.View', 'VirtualMachine.State.CreateSnapshot'])).toEqual(
      [],
    )
  })

  it('selects by tag', async () => {
    const [vm] = await selectVms(vsphere, ['DC0_H0_VM1'])
    if (vm === undefined) throw new Error('nothing selected')
    await tagVm(vsphere, 'Backup class', 'gold', vm.moref)
    expect(await names('tag:gold')).toEqual([vm.path])
    expect(await names('tag:Backup\\ class/gold')).toEqual([vm.path])
    await expect(selectVms(vsphere, ['tag:silver'])).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('no tag'),
    })
  })
})

/** Makes a tag and attaches it, as an administrator would through REST. */
async function tagVm(vsphere: Vsphere, category: string, tag: string, moref: string): Promise<void> {
  const { client, credentials } = vsphere.http
  const authorization = `Basic ${Buffer.from(`${credentials.user}:${credentials.password.reveal()}`).toString('base64')}`
  const ask = async (path: string, body: unknown, headers: Record<string, string>): Promise<unknown> => {
    const answer = await client.send({
      method: 'POST',
      path,
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
      timeoutMs: 5000,
    })
    const text = Buffer.concat(await Array.fromAsync(answer.body as AsyncIterable<Buffer>)).toString()
    if (answer.status >= 300) throw new Error(`${path}: ${answer.status} ${text}`)
    return text === '' ? undefined : (JSON.parse(text) as { value: unknown }).value
  }
  const session = String(await ask('/rest/com/vmware/cis/session', {}, { authorization, 'vmware-use-header-authn': 'x' }))
  const header = { 'vmware-api-session-id': session }
  const spec = { cardinality: 'MULTIPLE', name: category, description: '', associable_types: [] }
  const categoryId = await ask('/rest/com/vmware/cis/tagging/category', { create_spec: spec }, header)
  const tagId = String(
    await ask('/rest/com/vmware/cis/tagging/tag', { create_spec: { category_id: categoryId, name: tag, description: '' } }, header),
  )
  const object = { object_id: { type: 'VirtualMachine', id: moref } }
  await ask(`/rest/com/vmware/cis/tagging/tag-association/id:${tagId}?~action=attach`, object, header)
}
