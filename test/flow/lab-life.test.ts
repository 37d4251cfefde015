import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { silentLog, systemClock } from '../../src/core/index.ts'
import { labCapabilities, startLab } from '../../src/lab/index.ts'
import { createEndpoint, Model, View, World } from '../../src/lab/model/index.ts'
import { readScenario } from '../../src/lab/scenario.ts'
import { Sessions } from '../../src/lab/wire/index.ts'
import { find, findAll, LabClient } from './lab-client.ts'

const COMMAND = new URL('../../scripts/vcb.cjs', import.meta.url).pathname
const small = {
  taskMs: 0,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [{ name: 'ds', type: 'NFS' }],
      vms: [{ name: 'a', workload: 200, changeTracking: true, disks: [{ size: '8MiB' }, { size: '8MiB' }] }],
    },
  ],
}

describe('life of a lab', () => {
  let directory = ''
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'vcb-lab-'))
  })
  afterEach(() => rm(directory, { recursive: true, force: true }))

  test('goes on where it was after kill -9: certificate, password, ports, snapshots, disks, rules of the scenario', async () => {
    const file = join(directory, 'scenario.json')
    await writeFile(file, JSON.stringify(small))
    const up = async () => {
      const child = spawn(process.execPath, [COMMAND, 'lab', 'up', '--dir', join(directory, 'lab'), '--scenario', file, '--json'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      for await (const line of createInterface({ input: child.stdout }))
        return { child, ready: JSON.parse(line) as { url: string; thumbprint: string; sha1: string; passwordFile: string; user: string } }
      throw new Error('the lab did not start')
    }
    const first = await up()
    const endpoint = { url: first.ready.url, host: '127.0.0.1', port: 0, thumbprint: '', sha1: '' }
    const login = async () => {
      const client = new LabClient(endpoint)
      const password = (await readFile(first.ready.passwordFile, 'utf8')).trim()
      await client.call('Login', client.sessionManager, `<userName>${first.ready.user}</userName><password>${password}</password>`)
      return client
    }
    const client = await login()
    const vm =
      find(
        await client.call(
          'FindByInventoryPath',
          '<_this type="SearchIndex">SearchIndex</_this>',
          '<inventoryPath>/DC/vm/a</inventoryPath>',
        ),
        'returnval',
      )?.text ?? ''
    const snapshot = await client.takeSnapshot(vm, 'kept', true)
    first.child.kill('SIGKILL')
    await once(first.child, 'exit')

    const second = await up()
    expect(second.ready).toMatchObject({ url: first.ready.url, thumbprint: first.ready.thumbprint })
    expect((await stat(second.ready.passwordFile)).mode & 0o777).toBe(0o600)
    second.child.kill('SIGTERM')
    await once(second.child, 'exit')

    await using lab = await startLab({ directory: join(directory, 'lab') })
    expect(await lab.control.fsck('a')).toMatchObject({ ok: true })
    expect(await lab.control.fsck('a', { snapshot })).toMatchObject({ ok: true, sameRecord: true })
    const frozen = await lab.control.sha256('a', { snapshot })
    await lab.control.write('a', { records: 3 })
    expect(await lab.control.sha256('a', { snapshot })).toEqual(frozen)
    const again = await LabClient.login(lab)
    await again.removeSnapshot(snapshot)
    expect(await lab.control.fsck('a')).toMatchObject({ ok: true })
    expect((await lab.control.state()).vms[0]).toMatchObject({ snapshots: [], consolidationNeeded: false })
  })

  test('removes what was being written beside its place when it was killed', async () => {
    const place = join(directory, 'lab')
    const home = await startLab({ directory: place, scenario: small }).then(async (lab) => {
      await lab[Symbol.asyncDispose]()
      return join(lab.datastores['ds'] ?? '', 'a')
    })
    for (const name of ['a.vmx~', 'a.vmdk~']) await writeFile(join(home, name), 'half')
    await using _again = await startLab({ directory: place })
    expect((await readdir(home)).filter((name) => name.endsWith('~'))).toEqual([])
    expect(await readdir(home)).toContain('a.vmx')
  })

  test('is run by one process at a time', async () => {
    await using lab = await startLab({ directory, scenario: small })
    await expect(startLab({ directory })).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(lab.directory).toBe(directory)
  })

  test('starts 5,000 generated VMs in seconds, and makes their files at the first touch', async () => {
    const started = performance.now()
    await using lab = await startLab({
      directory,
      scenario: {
        taskMs: 0,
        datacenters: [
          {
            name: 'DC',
            hosts: [{ name: 'h1' }, { name: 'h2' }],
            datastores: [{ name: 'ds' }],
            generate: [{ count: 5000, prefix: 'load-' }],
          },
        ],
      },
    })
    expect(performance.now() - started).toBeLessThan(60_000)
    const client = await LabClient.login(lab)
    const view =
      find(
        await client.call(
          'CreateContainerView',
          '<_this type="ViewManager">ViewManager</_this>',
          '<container type="Folder">group-d1</container><type>VirtualMachine</type><recursive>true</recursive>',
        ),
        'returnval',
      )?.text ?? ''
    const spec = `<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet><pathSet>config.uuid</pathSet><pathSet>runtime.powerState</pathSet></propSet><objectSet><obj type="ContainerView">${view}</obj><skip>true</skip><selectSet xsi:type="TraversalSpec"><name>v</name><type>ContainerView</type><path>view</path><skip>false</skip></selectSet></objectSet></specSet><options/>`
    const names = new Set<string>()
    let pages = 0
    for (let page = await client.call('RetrievePropertiesEx', client.collector, spec); ; pages++) {
      for (const object of findAll(page, 'objects'))
        names.add([...findAll(object, 'propSet')].find((set) => find(set, 'name')?.text === 'name')?.children.at(-1)?.text ?? '')
      const token = find(page, 'token')?.text
      if (token === undefined) break
      page = await client.call('ContinueRetrievePropertiesEx', client.collector, `<token>${token}</token>`)
    }
    expect(names.size).toBe(5000)
    expect(pages).toBeGreaterThan(1)
    await expect(stat(join(lab.datastores['ds'] ?? '', 'load-0042'))).rejects.toThrow('ENOENT')
    await lab.control.write('load-0042', { records: 2 })
    expect((await stat(join(lab.datastores['ds'] ?? '', 'load-0042', 'load-0042-flat.vmdk'))).size).toBe(64 * 2 ** 20)
    expect((await lab.control.state()).vmCount).toBe(5000)
  })

  test('says what is wrong with a scenario', async () => {
    await expect(startLab({ directory, scenario: { datacenters: [] } })).rejects.toMatchObject({ code: 'CONFIG' })
    await expect(startLab({ directory, scenario: join(directory, 'none.yaml') })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    const bad = {
      datacenters: [
        { name: 'DC', hosts: [{ name: 'h' }], datastores: [{ name: 'ds' }], vms: [{ name: 'x', datastore: 'other', disks: [] }] },
      ],
    }
    await expect(startLab({ directory, scenario: bad })).rejects.toThrow('unknown datastore "other"')
  })

  test('names in its capabilities every method it serves, and no other', async () => {
    const world = await World.open(directory, () => readScenario(small), systemClock)
    await using model = new Model({ world, clock: systemClock, log: silentLog })
    const view = new View('vcenter', world)
    const sessions = new Sessions({ clock: systemClock, check: () => undefined })
    const users = { administrator: '', restricted: '', restrictedMay: new Set<string>() }
    const { methods } = createEndpoint({
      model,
      view,
      sessions,
      tickets: [],
      users,
      check: () => false,
      leaseHost: { base: () => '', sslThumbprint: () => '' },
    })
    const served = new Set(Object.values(methods).flatMap((table) => Object.keys(table)))
    const named = labCapabilities().filter((capability) => capability.area === 'method' && capability.simulated)
    expect(named.map((capability) => capability.name).sort()).toEqual([...served].sort())
  })
})
