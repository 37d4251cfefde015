import { afterAll, beforeAll, expect, it } from 'vitest'
import { Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { connectVsphere, data, fetchThumbprint, isFault, retrieveAll, retrieveOne, runTask, tasksOf } from '../../src/vsphere/index.ts'
import { describePeer } from '../peer.ts'
import { startVcsim, VCSIM_PASSWORD, type Vcsim } from './vcsim-server.ts'

describePeer('vcsim', "session against VMware's simulator", (program) => {
  let sim: Vcsim
  beforeAll(async () => {
    sim = await startVcsim(program, ['-dc', '1', '-vm', '2'])
  })
  afterAll(async () => sim[Symbol.asyncDispose]())

  it('logs in, knows the server, logs out', async () => {
    await using vsphere = await sim.connect()
    expect(vsphere.about).toMatchObject({ kind: 'vcenter', apiVersion: '6.5' })
    expect(vsphere.about.instanceUuid).toMatch(/^[0-9a-f-]{36}$/)
    const [now] = await vsphere.call('CurrentTime', { type: 'ServiceInstance', value: 'ServiceInstance' })
    expect(now?.text).toMatch(/^\d{4}-\d\d-\d\dT/)
  })

  it('says AUTH for a wrong password', async () => {
    await expect(sim.connect({ password: 'wrong' })).rejects.toMatchObject({
      code: 'AUTH',
      message: expect.stringContaining('InvalidLogin'),
    })
  })

  it('accepts the SHA-1 pin and refuses another certificate', async () => {
    const { sha1 } = await fetchThumbprint(sim.url)
    const vsphere = await sim.connect({ thumbprint: sha1.toLowerCase().replaceAll(':', '') })
    await vsphere[Symbol.asyncDispose]()
    const other = 'AB:'.repeat(31) + 'AB'
    await expect(sim.connect({ thumbprint: other })).rejects.toMatchObject({
      code: 'AUTH',
      message: `The certificate of ${new URL(sim.url).host} changed: pinned ${other}, shown ${sim.thumbprint}.`,
    })
  })

  it('refuses a self-signed certificate without a pin', async () => {
    const options = { url: sim.url, user: 'backup', password: new Secret(VCSIM_PASSWORD), trust: {}, clock: systemClock, log: silentLog }
    await expect(connectVsphere(options)).rejects.toMatchObject({ code: 'AUTH', message: expect.stringContaining('is not trusted') })
  })

  it('logs in again when the session was ended, and goes on', async () => {
    await using vsphere = await sim.connect()
    await using other = await sim.connect()
    expect(vsphere.login).toBe(1)
    await other.call('TerminateSession', other.service('sessionManager'), { sessionId: [vsphere.sessionKey()] })
    const { props } = await retrieveOne(vsphere, vsphere.service('rootFolder'), ['name'])
    expect(props.get('name')?.text).toBe('Datacenters')
    expect(vsphere.login).toBe(2)
  })

  it('lists on when the session ends in the middle of a list', async () => {
    await using vsphere = await sim.connect()
    await using other = await sim.connect()
    const names: string[] = []
    for await (const { props } of retrieveAll(vsphere, { type: 'VirtualMachine', paths: ['name'], pageSize: 1 })) {
      names.push(props.get('name')?.text ?? '')
      if (names.length === 1) await other.call('TerminateSession', other.service('sessionManager'), { sessionId: [vsphere.sessionKey()] })
    }
    expect(names.sort()).toEqual(['DC0_C0_RP0_VM0', 'DC0_C0_RP0_VM1', 'DC0_H0_VM0', 'DC0_H0_VM1'])
  })

  it('runs a task, reports its name, and gives its error as a fault', async () => {
    await using vsphere = await sim.connect()
    const [vm] = await Array.fromAsync(retrieveAll(vsphere, { type: 'VirtualMachine', paths: ['name'] }))
    if (vm === undefined) throw new Error('no VM')
    const started: string[] = []
    await runTask(
      vsphere,
      'ReconfigVM_Task',
      vm.obj,
      { spec: data({ annotation: 'a < b & "c"\n' }) },
      { onStarted: (task) => void started.push(task.value) },
    )
    expect(started).toHaveLength(1)
    const { props } = await retrieveOne(vsphere, vm.obj, ['config.annotation'])
    expect(props.get('config.annotation')?.text).toBe('a < b & "c"\n')
    const on = runTask(vsphere, 'PowerOnVM_Task', vm.obj, {}, { subject: 'the VM' })
    await expect(on).rejects.toMatchObject({ code: 'CONFLICT' })
    await on.catch((error: unknown) => expect(isFault(error, 'InvalidPowerState')).toBe(true))
    expect((await tasksOf(vsphere, vm.obj)).every(({ state }) => state === 'success' || state === 'error')).toBe(true)
  })

  it('says NOT_FOUND for an object that is gone', async () => {
    await using vsphere = await sim.connect()
    await expect(retrieveOne(vsphere, { type: 'VirtualMachine', value: 'vm-none' }, ['name'], { subject: 'web1' })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      subject: 'web1',
    })
  })

  it('says UNAVAILABLE for a method the server has not', async () => {
    await using vsphere = await sim.connect()
    const call = vsphere.call('LogUserEvent', vsphere.service('eventManager'), { entity: vsphere.service('rootFolder'), msg: 'x' })
    await expect(call).rejects.toMatchObject({ code: 'UNAVAILABLE', retry: 'never' })
  })
})

describePeer('vcsim', "standalone ESXi in VMware's simulator", (program) => {
  it('knows the host, its uuid, and that it has no tags or attributes', async () => {
    await using sim = await startVcsim(program, ['-esx', '-vm', '1'])
    await using vsphere = await sim.connect()
    expect(vsphere.about.kind).toBe('esxi')
    expect(vsphere.about.instanceUuid).toMatch(/^[0-9a-f-]{36}$/)
    expect(vsphere.hasService('customFieldsManager')).toBe(false)
    expect(() => vsphere.service('customFieldsManager')).toThrow(/offers no customFieldsManager/)
  })
})
