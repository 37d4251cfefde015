import { describe, expect, it } from 'vitest'
import { fetchThumbprint, retrieveAll, retrieveMany, type Vsphere } from '../../src/vsphere/index.ts'
import { CUT, hurriedClock, type Reaction, type SoapCall, SoapStub, TRUNCATE } from './soap-stub.ts'

const SERVICE = { type: 'ServiceInstance', value: 'ServiceInstance' }
const VM = { type: 'VirtualMachine', value: 'vm-1' }

async function open(react?: (call: SoapCall) => Reaction | undefined): Promise<{ stub: SoapStub; vsphere: Vsphere } & AsyncDisposable> {
  const stub = await SoapStub.start(react)
  const { sha256 } = await fetchThumbprint(stub.host)
  const vsphere = await stub.connect(sha256, hurriedClock)
  return {
    stub,
    vsphere,
    [Symbol.asyncDispose]: async () => {
      await vsphere[Symbol.asyncDispose]()
      await stub[Symbol.asyncDispose]()
    },
  }
}

describe('session', () => {
  it('speaks the newest version both know, sends the cookie as received and the operation id, and logs out', async () => {
    const { stub, vsphere } = await open()
    await vsphere.call('CurrentTime', SERVICE)
    await vsphere[Symbol.asyncDispose]()
    expect(stub.calls.map(({ method }) => method)).toEqual(['RetrieveServiceContent', 'Login', 'CurrentTime', 'Logout'])
    const time = stub.calls[2]
    expect(time?.soapAction).toBe('urn:vim25/8.0.3.0')
    expect(time?.cookie).toBe('vmware_soap_session="52-1"')
    expect(time?.body).toContain('<operationID>job-1</operationID>')
    expect(vsphere.about).toMatchObject({ kind: 'vcenter', instanceUuid: 'stub-uuid' })
    await stub[Symbol.asyncDispose]()
  })

  it('logs in once for many calls that find the session gone, and repeats them, changing ones too', async () => {
    await using pair = await open()
    const { stub, vsphere } = pair
    stub.forget()
    await Promise.all([
      vsphere.call('CurrentTime', SERVICE),
      vsphere.call('CurrentTime', SERVICE),
      vsphere.call('RemoveSnapshot_Task', VM, { removeChildren: false }),
    ])
    expect(stub.count('Login')).toBe(2)
    expect(stub.calls.filter(({ method }) => method === 'RemoveSnapshot_Task').map(({ cookie }) => cookie)).toEqual([
      'vmware_soap_session="52-1"',
      'vmware_soap_session="52-2"',
    ])
    expect(vsphere.login).toBe(2)
    expect(vsphere.sessionKey()).toBe('key-2')
  })

  it('gives up with AUTH when the new session is refused too', async () => {
    await using pair = await open(({ method }) => (method === 'CurrentTime' ? { fault: 'NotAuthenticated' } : undefined))
    await expect(pair.vsphere.call('CurrentTime', SERVICE)).rejects.toMatchObject({ code: 'AUTH' })
    expect(pair.stub.count('CurrentTime')).toBe(2)
  })

  it('repeats a read after a cut connection and after a truncated answer', async () => {
    await using pair = await open(({ method, count }) =>
      method !== 'CurrentTime' ? undefined : count === 1 ? CUT : count === 2 ? TRUNCATE : undefined,
    )
    const [now] = await pair.vsphere.call('CurrentTime', SERVICE)
    expect(now?.text).toBe('2026-11-22T18:00:00Z')
    expect(pair.stub.count('CurrentTime')).toBe(3)
  })

  it('waits for a server that is away, and not for ever', async () => {
    await using back = await open(({ method, count }) => (method === 'CurrentTime' && count <= 8 ? CUT : undefined))
    const [now] = await back.vsphere.call('CurrentTime', SERVICE)
    expect(now?.text).toBe('2026-11-22T18:00:00Z')
    await using gone = await open(({ method }) => (method === 'CurrentTime' ? CUT : undefined))
    await expect(gone.vsphere.call('CurrentTime', SERVICE)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(gone.stub.count('CurrentTime')).toBeLessThan(20)
  })

  it('waits with its new login for a server that comes back without its sessions', async () => {
    await using pair = await open(({ method, count }) =>
      method === 'CurrentTime' && count === 1
        ? { fault: 'NotAuthenticated' }
        : method === 'Login' && count > 1 && count <= 7
          ? CUT
          : undefined,
    )
    const [now] = await pair.vsphere.call('CurrentTime', SERVICE)
    expect(now?.text).toBe('2026-11-22T18:00:00Z')
    expect(pair.vsphere.login).toBe(2)
  })

  it('never sends a changing call twice when the connection breaks', async () => {
    await using pair = await open(({ method }) => (method === 'CreateSnapshot_Task' ? CUT : undefined))
    await expect(pair.vsphere.call('CreateSnapshot_Task', VM, { name: 'x' })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(pair.stub.count('CreateSnapshot_Task')).toBe(1)
  })

  it('refuses a truncated answer to a changing call', async () => {
    await using pair = await open(({ method }) => (method === 'SetField' ? TRUNCATE : undefined))
    await expect(pair.vsphere.call('SetField', VM)).rejects.toMatchObject({ code: 'INTEGRITY' })
    expect(pair.stub.count('SetField')).toBe(1)
  })

  it('says what answered when it was no vCenter', async () => {
    await using pair = await open(({ method }) =>
      method === 'CurrentTime' ? { status: 404, body: '<html><b>nginx</b> not found</html>' } : undefined,
    )
    await expect(pair.vsphere.call('CurrentTime', SERVICE)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      retry: 'never',
      message: expect.stringMatching(/HTTP status 404 \(nginx not found\)/),
    })
  })

  it('refuses an answer to another question', async () => {
    const body = '<Envelope><Body><LoginResponse/></Body></Envelope>'
    await using pair = await open(({ method }) => (method === 'SetField' ? { status: 200, body } : undefined))
    await expect(pair.vsphere.call('SetField', VM)).rejects.toMatchObject({
      code: 'INTEGRITY',
      message: expect.stringContaining('LoginResponse'),
    })
  })

  it('refuses calls after its end instead of trying for long', async () => {
    const pair = await open()
    await pair[Symbol.asyncDispose]()
    await expect(pair.vsphere.call('CurrentTime', SERVICE)).rejects.toMatchObject({
      code: 'INTERNAL',
      message: expect.stringContaining('closed'),
    })
  })

  it('gives the reason of an abort', async () => {
    const controller = new AbortController()
    await using pair = await open(({ method }) => {
      if (method !== 'CurrentTime') return undefined
      controller.abort()
      return new Promise<string>(() => undefined)
    })
    await expect(pair.vsphere.call('CurrentTime', SERVICE, {}, { signal: controller.signal })).rejects.toMatchObject({ code: 'CANCELED' })
  })
})

describe('trust', () => {
  it('sends nothing to a server with another certificate than the pinned one', async () => {
    await using first = await SoapStub.start()
    await using second = await SoapStub.start(undefined, 'second')
    const pinned = await fetchThumbprint(first.host)
    const shown = await fetchThumbprint(second.host)
    expect(pinned).toMatchObject({ trusted: false, subject: expect.stringContaining('vcb-proxy test first') })
    await expect(second.connect(pinned.sha256)).rejects.toMatchObject({
      code: 'AUTH',
      message: `The certificate of ${second.host} changed: pinned ${pinned.sha256}, shown ${shown.sha256}.`,
      next: expect.stringContaining('pin the new thumbprint'),
    })
    expect(second.received).toBe(0)
    expect(second.calls).toEqual([])
  })

  it('says UNAVAILABLE where nobody listens', async () => {
    const stub = await SoapStub.start()
    const { host } = stub
    await stub[Symbol.asyncDispose]()
    await expect(fetchThumbprint(host)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('ECONNREFUSED') })
  })
})

describe('property collector', () => {
  const object = (n: number): string =>
    `<objects><obj type="VirtualMachine">vm-${n}</obj><propSet><name>name</name><val xsi:type="xsd:string">web${n}</val></propSet></objects>`
  const page = (token: string | undefined, ...numbers: number[]): string =>
    `<returnval>${token === undefined ? '' : `<token>${token}</token>`}${numbers.map(object).join('')}</returnval>`
  const pages = ({ method, body }: SoapCall): string | undefined =>
    method === 'RetrievePropertiesEx'
      ? page('a', 1, 2)
      : method === 'ContinueRetrievePropertiesEx'
        ? body.includes('<token>a</token>')
          ? page('b', 3)
          : page(undefined, 4)
        : undefined

  it('follows the tokens and frees the view', async () => {
    await using pair = await open(pages)
    const seen = await Array.fromAsync(retrieveAll(pair.vsphere, { type: 'VirtualMachine', paths: ['name'], pageSize: 2 }))
    expect(seen.map(({ obj, props }) => [obj.value, props.get('name')?.text])).toEqual([1, 2, 3, 4].map((n) => [`vm-${n}`, `web${n}`]))
    expect(pair.stub.calls.find(({ method }) => method === 'RetrievePropertiesEx')?.body).toContain(
      '<options><maxObjects>2</maxObjects></options>',
    )
    expect(pair.stub.count('DestroyView')).toBe(1)
  })

  it('starts again when the session is lost between pages, and gives every object once', async () => {
    let lost = false
    await using pair = await open((call) => {
      if (call.method === 'ContinueRetrievePropertiesEx' && !lost) {
        lost = true
        return { fault: 'NotAuthenticated' }
      }
      // A token of the session before is not known to the new one.
      if (call.method === 'ContinueRetrievePropertiesEx' && call.count === 2) return { fault: 'InvalidArgument' }
      return pages(call)
    })
    const seen = await Array.fromAsync(retrieveAll(pair.vsphere, { type: 'VirtualMachine', paths: ['name'] }))
    expect(seen.map(({ obj }) => obj.value)).toEqual(['vm-1', 'vm-2', 'vm-3', 'vm-4'])
    expect(pair.vsphere.login).toBe(2)
  })

  it('frees view and token when the reader stops early', async () => {
    await using pair = await open(pages)
    for await (const { obj } of retrieveAll(pair.vsphere, { type: 'VirtualMachine', paths: ['name'] })) if (obj.value === 'vm-1') break
    expect(pair.stub.count('CancelRetrievePropertiesEx')).toBe(1)
    expect(pair.stub.count('DestroyView')).toBe(1)
  })

  it('fails when a list ends in the middle', async () => {
    await using pair = await open((call) => (call.method === 'ContinueRetrievePropertiesEx' ? '' : pages(call)))
    const list = Array.fromAsync(retrieveAll(pair.vsphere, { type: 'VirtualMachine', paths: ['name'] }))
    await expect(list).rejects.toMatchObject({ code: 'INTEGRITY' })
  })

  it('leaves out objects that are gone, though the server then refuses the whole list', async () => {
    await using pair = await open(({ method, body }) => {
      if (method !== 'RetrievePropertiesEx') return undefined
      if (body.includes('vm-3')) return { fault: 'ManagedObjectNotFound', fields: '<obj type="VirtualMachine">vm-3</obj>' }
      return page(undefined, ...[1, 2, 4].filter((n) => body.includes(`vm-${n}<`)))
    })
    const asked = [1, 2, 3, 4].map((n) => ({ type: 'VirtualMachine', value: `vm-${n}` }))
    expect((await retrieveMany(pair.vsphere, asked, ['name'])).map(({ obj }) => obj.value)).toEqual(['vm-1', 'vm-2', 'vm-4'])
  })

  it('tells unset properties from those that may not be read', async () => {
    const missing =
      '<missingSet><path>config</path><fault><fault xsi:type="NoPermission"><privilegeId>System.Read</privilegeId></fault></fault></missingSet>'
    await using pair = await open(({ method }) =>
      method === 'RetrievePropertiesEx'
        ? `<returnval><objects><obj type="VirtualMachine">vm-1</obj>${missing}</objects></returnval>`
        : undefined,
    )
    const [found] = await retrieveMany(pair.vsphere, [VM], ['config', 'name'])
    expect(found?.missing).toEqual(new Map([['config', 'NoPermission']]))
    expect(found?.props.size).toBe(0)
  })
})
