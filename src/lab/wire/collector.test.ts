import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { login, type Reply, runtime, soap, WireModel } from '../../../test/lab/wire-model.ts'

const spec = (type: string, root: string, paths: readonly string[], traversal = ''): string =>
  `<spec><propSet><type>${type}</type>${paths.map((path) => `<pathSet>${path}</pathSet>`).join('')}</propSet><objectSet>${root}${traversal}</objectSet></spec>`
const FOLDER = '<obj type="Folder">group-v3</obj><skip>true</skip>'
const CHILDREN = '<selectSet xsi:type="TraversalSpec"><type>Folder</type><path>childEntity</path></selectSet>'
const match = (reply: Reply, pattern: RegExp): string => pattern.exec(reply.body)?.[1] ?? ''

describe('WaitForUpdatesEx', () => {
  let model: WireModel
  let cookie: string
  let collector: string
  const call = (name: string, type: string, id: string, args = '') =>
    soap(model.server, `<${name} xmlns="urn:vim25"><_this type="${type}">${id}</_this>${args}</${name}>`, cookie)
  const filter = async (text: string, partial = false) =>
    match(
      await call('CreateFilter', 'PropertyCollector', collector, `${text}<partialUpdates>${partial}</partialUpdates>`),
      /<returnval type="PropertyFilter">(.*?)</,
    )
  const wait = (version = '', seconds = 0, max?: number) =>
    call(
      'WaitForUpdatesEx',
      'PropertyCollector',
      collector,
      `<version>${version}</version><options><maxWaitSeconds>${seconds}</maxWaitSeconds>${max === undefined ? '' : `<maxObjectUpdates>${max}</maxObjectUpdates>`}</options>`,
    )
  const versionOf = (reply: Reply): string => match(reply, /<version>(.*?)</)

  beforeEach(async () => {
    model = await WireModel.start(4)
    cookie = await login(model.server)
    collector = match(
      await call('CreatePropertyCollector', 'PropertyCollector', 'propertyCollector'),
      /<returnval type="PropertyCollector">(.*?)</,
    )
  })
  afterEach(async () => model[Symbol.asyncDispose]())

  it('gives the whole state first, then changes as they happen, then nothing', async () => {
    const id = await filter(spec('VirtualMachine', FOLDER, ['name', 'runtime.powerState', 'snapshot'], CHILDREN))
    const first = await wait()
    expect(first.body.match(/<kind>enter<\/kind>/g)?.length).toBe(4)
    expect(first.body).toContain(`<filter type="PropertyFilter">${id}</filter>`)
    expect(first.body).toContain('<changeSet><name>snapshot</name><op>assign</op></changeSet>')
    const started = performance.now()
    const waiting = wait(versionOf(first), 30)
    model.set('vm-101', { runtime: runtime('poweredOff') })
    const second = await waiting
    expect(performance.now() - started).toBeLessThan(20_000)
    expect(second.body).toContain('<kind>modify</kind><obj type="VirtualMachine">vm-101</obj>')
    expect(second.body.match(/<changeSet>/g)?.length).toBe(1)
    expect(second.body).toContain('<name>runtime.powerState</name><op>assign</op><val xsi:type="VirtualMachinePowerState">poweredOff</val>')
    const third = await wait(versionOf(second), 0)
    expect(third.status).toBe(200)
    expect(third.body).not.toContain('returnval')
  })

  it('does not wake for a change that leaves the watched values alone', async () => {
    await filter(spec('VirtualMachine', FOLDER, ['name'], CHILDREN))
    const first = await wait()
    const waiting = wait(versionOf(first), 1)
    model.set('vm-101', { runtime: runtime('poweredOff') })
    expect((await waiting).body).not.toContain('returnval')
  })

  it('reports objects that appear and vanish', async () => {
    await filter(spec('VirtualMachine', FOLDER, ['name'], CHILDREN))
    const first = await wait()
    const folder = model.objects.get('group-v3')
    const children = folder?.childEntity
    if (!Array.isArray(children)) throw new Error('no children')
    model.set('group-v3', { childEntity: children.slice(1) })
    const second = await wait(versionOf(first), 0)
    expect(second.body).toContain('<kind>leave</kind><obj type="VirtualMachine">vm-100</obj>')
    model.set('group-v3', { childEntity: children })
    expect((await wait(versionOf(second), 0)).body).toContain('<kind>enter</kind><obj type="VirtualMachine">vm-100</obj>')
  })

  it('gives the last update again to a client that lost the reply, and refuses other versions', async () => {
    await filter(spec('VirtualMachine', '<obj type="VirtualMachine">vm-100</obj>', ['name']))
    const first = await wait()
    model.set('vm-100', { name: 'other' })
    const second = await wait(versionOf(first), 0)
    const again = await wait(versionOf(first), 0)
    expect(again.body).toBe(second.body)
    for (const version of ['77', '-', 'x']) expect((await wait(version, 0)).body).toContain('<InvalidCollectorVersionFault')
    expect((await wait('', 0)).body).toContain('<kind>enter</kind>')
  })

  it('truncates at the asked number of updates and continues', async () => {
    await filter(spec('VirtualMachine', FOLDER, ['name'], CHILDREN))
    const first = await wait('', 0, 3)
    expect(first.body.match(/<objectSet>/g)?.length).toBe(3)
    expect(first.body).toContain('<truncated>true</truncated>')
    const second = await wait(versionOf(first), 0, 3)
    expect(second.body.match(/<objectSet>/g)?.length).toBe(1)
    expect(second.body).toContain('<truncated>false</truncated>')
  })

  it('names nested changes one by one when partial updates are asked for', async () => {
    await filter(spec('VirtualMachine', '<obj type="VirtualMachine">vm-100</obj>', ['runtime']), true)
    const first = await wait()
    model.set('vm-100', { runtime: runtime('suspended') })
    const second = await wait(versionOf(first), 0)
    expect(second.body).toContain(
      '<changeSet><name>runtime.powerState</name><op>assign</op><val xsi:type="VirtualMachinePowerState">suspended</val></changeSet>',
    )
    expect(second.body.match(/<changeSet>/g)?.length).toBe(1)
  })

  it('ends a wait with RequestCanceled when asked, when the collector goes, and NotAuthenticated when the session does', async () => {
    await filter(spec('VirtualMachine', '<obj type="VirtualMachine">vm-100</obj>', ['name']))
    let version = versionOf(await wait())
    const canceled = wait(version, 60)
    await new Promise((resolve) => setImmediate(resolve))
    const untilCanceled = async (): Promise<void> => {
      for (let tries = 0; tries < 50; tries++) {
        await call('CancelWaitForUpdates', 'PropertyCollector', collector)
        const done = await Promise.race([canceled.then(() => true), new Promise<boolean>((resolve) => setTimeout(resolve, 20, false))])
        if (done) return
      }
    }
    await untilCanceled()
    expect((await canceled).body).toContain('<RequestCanceledFault')
    version = versionOf(await wait('', 0))
    const destroyed = wait(version, 60)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect((await call('DestroyPropertyCollector', 'PropertyCollector', collector)).status).toBe(200)
    expect((await destroyed).body).toContain('<RequestCanceledFault')
    collector = 'propertyCollector'
    await filter(spec('VirtualMachine', '<obj type="VirtualMachine">vm-100</obj>', ['name']))
    version = versionOf(await wait())
    const orphaned = wait(version, 60)
    await new Promise((resolve) => setTimeout(resolve, 100))
    model.sessions.expireAll()
    expect((await orphaned).body).toContain('<NotAuthenticatedFault')
  })

  it('follows a live view', async () => {
    const made = await call(
      'CreateContainerView',
      'ViewManager',
      'ViewManager',
      '<container type="Folder">group-d1</container><type>VirtualMachine</type><recursive>true</recursive>',
    )
    const view = match(made, /<returnval type="ContainerView">(.*?)</)
    await filter(
      spec(
        'VirtualMachine',
        `<obj type="ContainerView">${view}</obj><skip>true</skip>`,
        ['name'],
        '<selectSet xsi:type="TraversalSpec"><type>ContainerView</type><path>view</path></selectSet>',
      ),
    )
    const first = await wait()
    expect(first.body.match(/<kind>enter<\/kind>/g)?.length).toBe(4)
    const vms = model.objects.get('group-v3')?.childEntity
    if (!Array.isArray(vms)) throw new Error('no children')
    model.set('resgroup-10', { vm: vms.slice(1) })
    model.set('host-8', { vm: vms.slice(1) })
    model.set('group-v3', { childEntity: vms.slice(1) })
    expect((await wait(versionOf(first), 0)).body).toContain('<kind>leave</kind><obj type="VirtualMachine">vm-100</obj>')
  })

  it('refuses a filter on something that does not exist', async () => {
    const reply = await call(
      'CreateFilter',
      'PropertyCollector',
      collector,
      `${spec('VirtualMachine', '<obj type="VirtualMachine">vm-1</obj>', ['name'])}<partialUpdates>false</partialUpdates>`,
    )
    expect(reply.body).toContain('<ManagedObjectNotFoundFault')
  })
})
