import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { http, login, runtime, soap, WireModel } from '../../../test/lab/wire-model.ts'
import type { CallInfo, Intervention } from './index.ts'
import { arrayOf, labRef, textOf, typed, VimFault } from './index.ts'

const PC = '<_this type="PropertyCollector">propertyCollector</_this>'
const vms = (paths: readonly string[], type = 'VirtualMachine'): string =>
  `<specSet><propSet><type>${type}</type>${paths.map((path) => `<pathSet>${path}</pathSet>`).join('')}</propSet>` +
  '<objectSet><obj type="Folder">group-v3</obj><skip>true</skip><selectSet xsi:type="TraversalSpec"><type>Folder</type><path>childEntity</path></selectSet></objectSet></specSet>'
const one = (type: string, id: string, paths: readonly string[]): string =>
  `<specSet><propSet><type>${type}</type>${paths.map((path) => `<pathSet>${path}</pathSet>`).join('')}</propSet><objectSet><obj type="${type}">${id}</obj></objectSet></specSet>`
const retrieve = (spec: string): string => `<RetrieveProperties xmlns="urn:vim25">${PC}${spec}</RetrieveProperties>`
const retrieveEx = (spec: string, options = '<options/>'): string =>
  `<RetrievePropertiesEx xmlns="urn:vim25">${PC}${spec}${options}</RetrievePropertiesEx>`
const method = (name: string, type: string, id: string, args = ''): string =>
  `<${name} xmlns="urn:vim25"><_this type="${type}">${id}</_this>${args}</${name}>`

describe('the SOAP server', () => {
  let model: WireModel
  let cookie: string
  const rules: ((call: CallInfo) => Intervention | readonly Intervention[] | undefined)[] = []

  beforeAll(async () => {
    model = await WireModel.start(7, {
      pageLimit: 5,
      before: (call) => rules.map((rule) => rule(call)).find((found) => found !== undefined),
    })
    cookie = await login(model.server)
  })
  afterAll(async () => model[Symbol.asyncDispose]())
  const call = (body: string, version?: string) => soap(model.server, body, cookie, version)

  it('offers its versions before login and serves both SOAP paths', async () => {
    const versions = await http(model.server, 'GET', '/sdk/vimServiceVersions.xml')
    expect(versions.status).toBe(200)
    expect(versions.body).toContain('<name>urn:vim25</name>\n<version>8.0.3.0</version>')
    for (const version of ['6.7.1', '6.7', '6.5', '6.0', '5.5']) expect(versions.body).toContain(`<version>${version}</version>`)
    const content = method('RetrieveServiceContent', 'ServiceInstance', 'ServiceInstance')
    for (const path of ['/sdk', '/sdk/', '/sdk/vimService']) {
      const reply = await soap(model.server, content, '', 'urn:vim25/8.0.3.0', path)
      expect(reply.status).toBe(200)
      expect(reply.body).toContain(
        '<rootFolder type="Folder">group-d1</rootFolder><propertyCollector type="PropertyCollector">propertyCollector',
      )
    }
    expect((await http(model.server, 'GET', '/nothing')).status).toBe(404)
  })

  it('emits only what the named version knows', async () => {
    const content = method('RetrieveServiceContent', 'ServiceInstance', 'ServiceInstance')
    expect((await call(content, '"urn:vim25/8.0.3.0"')).body).toContain('<patchLevel>')
    const old = (await call(content, 'urn:vim25/6.7.1')).body
    expect(old).not.toContain('patchLevel')
    expect(old).toContain('<instanceUuid>')
    for (const version of ['', 'urn:vim25', 'urn:vim25/99.0']) expect((await call(content, version)).body).not.toContain('<instanceUuid>')
    expect((await call(retrieve(vms(['config.changeTrackingEnabled'])), 'urn:vim25/2.5')).body).toContain('<InvalidPropertyFault')
    const unknown = await call(
      method(
        'QueryChangedDiskAreas',
        'VirtualMachine',
        'vm-100',
        '<deviceKey>2000</deviceKey><startOffset>0</startOffset><changeId>*</changeId>',
      ),
      '',
    )
    expect(unknown.body).toContain(
      '<MethodNotFoundFault xmlns="urn:vim25" xsi:type="MethodNotFound"><receiver type="VirtualMachine">vm-100</receiver><method>QueryChangedDiskAreas',
    )
  })

  it('asks for a login everywhere else', async () => {
    for (const [body, cookieSent] of [
      [retrieve(vms(['name'])), ''],
      [retrieveEx(vms(['name'])), 'vmware_soap_session="52000000"'],
      [method('CurrentTime', 'ServiceInstance', 'ServiceInstance'), ''],
      [method('PowerOnVM_Task', 'VirtualMachine', 'vm-100'), 'vmware_soap_session='],
    ] as const) {
      const reply = await soap(model.server, body, cookieSent)
      expect(reply.status).toBe(500)
      expect(reply.body).toContain('<NotAuthenticatedFault xmlns="urn:vim25" xsi:type="NotAuthenticated">')
    }
    const asked = await soap(model.server, retrieve(one('SessionManager', 'SessionManager', ['currentSession'])))
    expect(asked.status).toBe(200)
    expect(asked.body).not.toContain('propSet')
    const wrong = await soap(
      model.server,
      method('Login', 'SessionManager', 'SessionManager', '<userName>user</userName><password>no</password>'),
    )
    expect(wrong.status).toBe(500)
    expect(wrong.body).toContain('xsi:type="InvalidLogin"')
    expect(wrong.headers['set-cookie']).toBeUndefined()
    const again = await call(method('Login', 'SessionManager', 'SessionManager', '<userName>user</userName><password>pass</password>'))
    expect(again.body).toContain('xsi:type="InvalidLogin"')
  })

  it('takes the cookie quoted, bare, with its attributes, and ends it at logout', async () => {
    const value = /"(.*)"/.exec(cookie)?.[1] ?? ''
    for (const form of [
      cookie,
      `vmware_soap_session=${value}`,
      `${cookie}; Path=/; HttpOnly; Secure; `,
      `a=b; vmware_soap_session="${value}"`,
    ]) {
      const reply = await soap(model.server, retrieve(one('SessionManager', 'SessionManager', ['currentSession'])), form)
      expect(reply.body).toContain('<val xsi:type="UserSession"><key>')
      expect(reply.body).not.toContain(value)
    }
    const second = await login(model.server)
    expect((await soap(model.server, method('Logout', 'SessionManager', 'SessionManager'), second)).status).toBe(200)
    expect((await soap(model.server, retrieve(vms(['name'])), second)).body).toContain('NotAuthenticatedFault')
  })

  it('types every value, array item and device', async () => {
    const { body } = await call(
      retrieve(
        one('VirtualMachine', 'vm-101', [
          'config.hardware.device',
          'datastore',
          'name',
          'config.modified',
          'config.extraConfig',
          'runtime.powerState',
        ]),
      ),
    )
    expect(body).toContain('<val xsi:type="ArrayOfVirtualDevice"><VirtualDevice xsi:type="ParaVirtualSCSIController"><key>1000</key>')
    expect(body).toContain(
      '<backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds1] vm-101/vm-101_0.vmdk</fileName><datastore type="Datastore">datastore-9</datastore>',
    )
    expect(body).toContain(
      '<val xsi:type="ArrayOfManagedObjectReference"><ManagedObjectReference type="Datastore" xsi:type="ManagedObjectReference">datastore-9<',
    )
    expect(body).toContain('<name>name</name><val xsi:type="xsd:string">web-1</val>')
    expect(body).toContain('<val xsi:type="xsd:dateTime">2026-01-01T00:00:00.000Z</val>')
    expect(body).toContain('<OptionValue xsi:type="OptionValue"><key>scsi0:0.ctkEnabled</key><value xsi:type="xsd:string">TRUE</value>')
    expect(body).toContain('<val xsi:type="VirtualMachinePowerState">poweredOn</val>')
    const order = body.slice(body.indexOf('VirtualDiskFlatVer2BackingInfo'))
    const fields = [
      'fileName',
      'datastore',
      'diskMode',
      'thinProvisioned',
      'uuid',
      'changeId',
      'controllerKey',
      'unitNumber',
      'capacityInKB',
      'capacityInBytes',
    ]
    const places = fields.map((field) => order.indexOf(`<${field}>`)).filter((place) => place >= 0)
    expect(places).toEqual(places.toSorted((a, b) => a - b))
  })

  it('walks nested, keyed and subtype paths, and leaves unset ones out', async () => {
    const { body } = await call(
      retrieve(
        one('VirtualMachine', 'vm-100', [
          'config.hardware.device[2001].backing.fileName',
          'config.extraConfig["scsi0:0.ctkEnabled"].value',
          'guest.ipAddress',
          'config.hardware.device[9999]',
        ]),
      ),
    )
    expect(body).toContain('<val xsi:type="xsd:string">[ds1] vm-100/vm-100_1.vmdk</val>')
    expect(body).toContain('<val xsi:type="xsd:string">TRUE</val>')
    expect(body).not.toContain('guest.ipAddress')
    expect(body).not.toContain('9999')
    const ds = await call(retrieve(one('Datastore', 'datastore-9', ['info.vmfs.extent', 'info.freeSpace'])))
    expect(ds.body).toContain('<diskName>naa.1</diskName>')
    expect(ds.body).toContain('<val xsi:type="xsd:long">5000000000000</val>')
    for (const path of [
      'nonsense',
      'config.nonsense',
      'name.x',
      'config.hardware.device.key',
      'config[1]',
      'config.',
      '.config',
      'datastore.name',
    ]) {
      const reply = await call(retrieve(one('VirtualMachine', 'vm-100', [path])))
      expect(reply.status).toBe(500)
      expect(reply.body).toContain(`<InvalidPropertyFault xmlns="urn:vim25" xsi:type="InvalidProperty"><name>${path}</name>`)
    }
  })

  it('keeps characters that XML cannot hold out of the reply', async () => {
    const { body } = await call(retrieve(one('VirtualMachine', 'vm-100', ['config.annotation'])))
    expect(body).toContain('&lt;a &amp; &quot;b&quot;&gt;&#10;\ufffd')
  })

  it('pages by token on the session, at its own limit too', async () => {
    const names: string[] = []
    let reply = await call(retrieveEx(vms(['name']), '<options><maxObjects>2</maxObjects></options>'))
    const tokens = new Set<string>()
    for (;;) {
      names.push(...[...reply.body.matchAll(/xsd:string">(web-\d)</g)].map((match) => match[1] ?? ''))
      const token = /<token>(.*?)<\/token>/.exec(reply.body)?.[1]
      if (token === undefined) break
      tokens.add(token)
      const other = await login(model.server)
      const foreign = await soap(
        model.server,
        `<ContinueRetrievePropertiesEx xmlns="urn:vim25">${PC}<token>${token}</token></ContinueRetrievePropertiesEx>`,
        other,
      )
      expect(foreign.body).toContain('<invalidProperty>token</invalidProperty>')
      reply = await call(`<ContinueRetrievePropertiesEx xmlns="urn:vim25">${PC}<token>${token}</token></ContinueRetrievePropertiesEx>`)
    }
    expect(names.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6].map((index) => `web-${index}`))
    expect(tokens.size).toBe(3)
    expect((await call(retrieveEx(vms(['name'])))).body.match(/<objects>/g)?.length).toBe(5)
    expect((await call(retrieve(vms(['name'])))).body.match(/<returnval>/g)?.length).toBe(7)
  })

  it('unites propSets, matches base types and recurses through named specs', async () => {
    const spec =
      '<specSet><propSet><type>ManagedEntity</type><pathSet>name</pathSet></propSet><propSet><type>VirtualMachine</type><pathSet>config.uuid</pathSet></propSet>' +
      '<objectSet><obj type="VirtualMachine">vm-103</obj><skip>false</skip><selectSet xsi:type="TraversalSpec"><name>up</name><type>ManagedEntity</type><path>parent</path><selectSet><name>up</name></selectSet></selectSet></objectSet></specSet>'
    const { body } = await call(retrieve(spec))
    const ids = [...body.matchAll(/<obj type="\w+">([^<]*)</g)].map((match) => match[1])
    expect(ids).toEqual(['vm-103', 'group-v3', 'datacenter-2', 'group-d1'])
    expect(body).toContain('<name>config.uuid</name><val xsi:type="xsd:string">4200-3</val>')
    const all = await call(retrieve(one('VirtualMachine', 'vm-100', []).replace('</type>', '</type><all>true</all>')))
    expect(all.body).toContain('<name>resourcePool</name>')
    const bad = await call(retrieve(spec.replace('<selectSet><name>up</name>', '<selectSet><name>nowhere</name>')))
    expect(bad.body).toContain('InvalidArgumentFault')
    const gone = await call(retrieve(one('VirtualMachine', 'vm-4', ['name'])))
    expect(gone.body).toContain(
      '<ManagedObjectNotFoundFault xmlns="urn:vim25" xsi:type="ManagedObjectNotFound"><obj type="VirtualMachine">vm-4</obj>',
    )
  })

  it('serves views of containers and lists', async () => {
    const made = await call(
      '<CreateContainerView xmlns="urn:vim25"><_this type="ViewManager">ViewManager</_this><container type="Folder">group-d1</container><type>VirtualMachine</type><type>Datastore</type><recursive>true</recursive></CreateContainerView>',
    )
    const view = /<returnval type="ContainerView">(.*?)</.exec(made.body)?.[1] ?? ''
    const spec = (path: string) =>
      `<specSet><propSet><type>ManagedEntity</type><pathSet>name</pathSet></propSet><objectSet><obj type="ContainerView">${view}</obj><skip>true</skip><selectSet xsi:type="TraversalSpec"><name>v</name><type>ContainerView</type><path>${path}</path><skip>false</skip></selectSet></objectSet></specSet>`
    expect((await call(retrieve(spec('view')))).body.match(/<returnval>/g)?.length).toBe(8)
    expect((await call(method('DestroyView', 'View', view))).status).toBe(200)
    expect((await call(retrieve(spec('view')))).body).toContain('ManagedObjectNotFoundFault')
    const list = await call(
      '<CreateListView xmlns="urn:vim25"><_this type="ViewManager">ViewManager</_this><obj type="VirtualMachine">vm-100</obj></CreateListView>',
    )
    const id = /<returnval type="ListView">(.*?)</.exec(list.body)?.[1] ?? ''
    const reset = await call(
      method('ResetListView', 'ListView', id, '<obj type="VirtualMachine">vm-101</obj><obj type="VirtualMachine">vm-77</obj>'),
    )
    expect(reset.body).toContain('<returnval type="VirtualMachine">vm-77</returnval>')
    expect((await call(retrieve(one('ListView', id, ['view'])))).body).toContain('>vm-101<')
  })

  it('reads requests as strictly as a real server', async () => {
    const reconfigure = (spec: string) => call(method('ReconfigVM_Task', 'VirtualMachine', 'vm-100', `<spec>${spec}</spec>`))
    expect((await reconfigure('<name>x</name><annotation>y</annotation>')).status).toBe(200)
    const disk =
      '<key>-1</key><backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds1] a.vmdk</fileName><diskMode>persistent</diskMode></backing><capacityInKB>0</capacityInKB>'
    expect(
      (await reconfigure(`<deviceChange><operation>add</operation><device xsi:type="VirtualDisk">${disk}</device></deviceChange>`)).status,
    ).toBe(200)
    for (const bad of [
      '<annotation>y</annotation><name>x</name>',
      '<nonsense>1</nonsense>',
      '<numCPUs>many</numCPUs>',
      '<numCPUs>3000000000</numCPUs>',
      '<changeTrackingEnabled>yes</changeTrackingEnabled>',
      `<deviceChange><operation>add</operation><device>${disk}</device></deviceChange>`,
      `<deviceChange><operation>attach</operation><device xsi:type="VirtualDisk">${disk}</device></deviceChange>`,
      '<deviceChange><operation>add</operation><device xsi:type="VirtualMachineConfigSpec"></device></deviceChange>',
      '<deviceChange><operation>add</operation></deviceChange>',
      '<extraConfig><key>a</key><value>b</value></extraConfig>',
      '<name>x</name><name>y</name>',
    ]) {
      const reply = await reconfigure(bad)
      expect(reply.status, bad).toBe(500)
      expect(reply.body, bad).toContain('<InvalidRequestFault xmlns="urn:vim25" xsi:type="InvalidRequest">')
    }
    for (const bad of ['', '<a', '<!DOCTYPE x [<!ENTITY a "b">]><x/>', '<PowerOnVM_Task xmlns="urn:vim25"/>'])
      expect((await call(bad)).status, bad).toBe(500)
  })

  it('runs a task a waiter sees through to its end', async () => {
    const started = await call(method('PowerOffVM_Task', 'VirtualMachine', 'vm-102'))
    const task = /<returnval type="Task">(.*?)</.exec(started.body)?.[1] ?? ''
    const info = (await call(retrieve(one('Task', task, ['info'])))).body
    expect(info).toContain(
      '<name>PowerOffVM_Task</name><descriptionId>VirtualMachine.powerOffVM</descriptionId><entity type="VirtualMachine">vm-102</entity><entityName>web-2</entityName>',
    )
    expect(info).toContain('<reason xsi:type="TaskReasonUser"><userName>LAB\\user</userName></reason>')
    const again = await call(method('PowerOffVM_Task', 'VirtualMachine', 'vm-102'))
    const failed = /<returnval type="Task">(.*?)</.exec(again.body)?.[1] ?? ''
    const { body } = await call(retrieve(one('Task', failed, ['info.state', 'info.error'])))
    expect(body).toContain('<val xsi:type="TaskInfoState">error</val>')
    expect(body).toContain(
      '<val xsi:type="LocalizedMethodFault"><fault xsi:type="InvalidPowerState"><requestedState>poweredOff</requestedState><existingState>poweredOff</existingState></fault><localizedMessage>The attempted',
    )
    expect((await call(retrieve(one('VirtualMachine', 'vm-102', ['recentTask'])))).body).toContain(task)
  })

  it('does what fault rules say', async () => {
    const guard = (rule: (typeof rules)[number]): Disposable => {
      rules.push(rule)
      return { [Symbol.dispose]: () => void rules.splice(rules.indexOf(rule), 1) }
    }
    const power = method('PowerOnVM_Task', 'VirtualMachine', 'vm-104')
    {
      using _ = guard(({ method: name, self }) =>
        name === 'PowerOnVM_Task' && self.value === 'vm-104'
          ? { action: 'fault', fault: new VimFault('TaskInProgress', { task: labRef('Task', 'task-1') }, 'busy') }
          : undefined,
      )
      const reply = await call(power)
      expect(reply.body).toContain(
        '<faultstring>busy</faultstring><detail><TaskInProgressFault xmlns="urn:vim25" xsi:type="TaskInProgress"><task type="Task">task-1</task>',
      )
    }
    {
      using _ = guard(({ method: name }) => (name === 'PowerOnVM_Task' ? { action: 'cut' } : undefined))
      const before = model.tasks.recent().length
      await expect(call(power)).rejects.toThrow(/socket hang up|ECONNRESET/)
      expect(model.tasks.recent().length).toBe(before)
    }
    {
      using _ = guard(({ method: name }) =>
        name === 'PowerOnVM_Task'
          ? [
              { action: 'delay', ms: 5 },
              { action: 'cut', when: 'after' },
            ]
          : undefined,
      )
      const before = model.tasks.recent().length
      await expect(call(power)).rejects.toThrow(/socket hang up|ECONNRESET/)
      expect(model.tasks.recent().length).toBe(before + 1)
    }
    {
      const own = await login(model.server)
      using _ = guard(({ method: name }) => (name === 'CurrentTime' ? { action: 'expire' } : undefined))
      const reply = await soap(model.server, method('CurrentTime', 'ServiceInstance', 'ServiceInstance'), own)
      expect(reply.body).toContain('NotAuthenticatedFault')
      expect((await soap(model.server, retrieve(vms(['name'])), own)).body).toContain('NotAuthenticatedFault')
    }
  })

  it('keeps events for managers, collectors and filters', async () => {
    const log = method(
      'LogUserEvent',
      'EventManager',
      'EventManager',
      '<entity type="VirtualMachine">vm-105</entity><msg>backup done</msg>',
    )
    expect((await call(log)).status).toBe(200)
    const query = (id: string) =>
      call(
        method(
          'QueryEvents',
          'EventManager',
          'EventManager',
          `<filter><entity><entity type="Folder">${id}</entity><recursion>all</recursion></entity></filter>`,
        ),
      )
    const found = (await query('group-v3')).body
    expect(found).toContain('<returnval xsi:type="GeneralUserEvent"><key>')
    expect(found).toContain('<message>backup done</message>')
    expect((await query('group-h4')).body).not.toContain('backup done')
    const made = await call(
      method('CreateCollectorForEvents', 'EventManager', 'EventManager', '<filter><eventTypeId>GeneralUserEvent</eventTypeId></filter>'),
    )
    const id = /<returnval type="EventHistoryCollector">(.*?)</.exec(made.body)?.[1] ?? ''
    expect((await call(retrieve(one('EventHistoryCollector', id, ['latestPage'])))).body).toContain('<Event xsi:type="GeneralUserEvent">')
    expect((await call(method('DestroyCollector', 'EventHistoryCollector', id))).status).toBe(200)
  })

  it('logs tasks, power changes and logins', async () => {
    const power = async (name: string): Promise<void> => {
      await call(method(name, 'VirtualMachine', 'vm-105'))
      await model.tasks.settled()
    }
    await power('PowerOffVM_Task')
    await power('PowerOffVM_Task')
    await power('PowerOnVM_Task')
    await soap(model.server, method('Login', 'SessionManager', 'SessionManager', '<userName>eve</userName><password>x</password>'))
    const log = model.events.list().map((event) => `${event.$type} ${textOf(event.fullFormattedMessage)}`)
    expect(log.filter((line) => line === 'VmPoweredOffEvent web-5 is powered off').length).toBe(1)
    expect(log.filter((line) => line === 'VmPoweredOnEvent web-5 is powered on').length).toBe(1)
    expect(log).toContain('TaskEvent Task: VirtualMachine.powerOffVM')
    expect(log.at(-1)).toMatch(/^BadUsernameSessionEvent Cannot login eve@/)
    expect(log.some((line) => line.startsWith('UserLoginSessionEvent User LAB\\user@'))).toBe(true)
    const query = await call(
      method(
        'QueryEvents',
        'EventManager',
        'EventManager',
        '<filter><entity><entity type="VirtualMachine">vm-105</entity><recursion>self</recursion></entity></filter>',
      ),
    )
    expect(query.body).toContain('xsi:type="VmPoweredOffEvent"')
    expect(query.body).toContain('<info><key>task-')
  })

  it('answers a fault for the lab’s own mistakes instead of a broken reply', async () => {
    const before = model.objects.get('vm-106')?.runtime
    model.set('vm-106', { runtime: { $type: 'VirtualMachineRuntimeInfo', nonsense: 1 } })
    const reply = await call(retrieve(one('VirtualMachine', 'vm-106', ['runtime'])))
    expect(reply.status).toBe(500)
    expect(reply.body).toContain('SystemErrorFault')
    expect(reply.body).toContain('VirtualMachineRuntimeInfo has no field nonsense')
    model.set('vm-106', { runtime: before })
    const list = arrayOf('string', ['a', typed('xsd:long', 5)])
    expect(list.$type).toBe('ArrayOfString')
  })

  it('keeps its certificate and serves TLS with it', async () => {
    const pinned = await new Promise<string>((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: model.server.port, ca: model.server.certificate, servername: 'localhost' }, () => {
        resolve(socket.getPeerCertificate().fingerprint)
        socket.end()
      })
      socket.on('error', reject)
    })
    expect(pinned).toBe(model.server.thumbprints.sha1)
    expect(pinned).toMatch(/^([0-9A-F]{2}:){19}[0-9A-F]{2}$/)
    expect(runtime('poweredOn')).toMatchObject({ powerState: 'poweredOn' })
  })
})
