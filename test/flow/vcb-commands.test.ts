import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createSnapshot, findVms, removeSnapshot, type Vsphere } from '../../src/vsphere/index.ts'
import { type LabSession, openLabSession } from './lab-session.ts'
import { morefs, type VcbTools, vcbTools } from './vcb-tools.ts'

/* The commands of Consolidated Backup against one lab: what they print, whom they refuse, and a script that uses them as published ones do. */
let session: LabSession
let vsphere: Vsphere
let tools: VcbTools

beforeAll(async () => {
  session = await openLabSession({
    scenario: {
      name: 'vcb-commands',
      seed: 12,
      recordDigests: true,
      datacenters: [
        {
          name: 'DC1',
          clusters: [{ name: 'C1', hosts: [{ name: 'esx1.lab' }], resourcePools: ['Gold'] }],
          networks: ['VM Network'],
          folders: ['Web', 'Odd/Deep er'],
          datastores: [{ name: 'vmfs1', type: 'VMFS6', capacity: '1TiB' }],
          vms: [
            {
              name: 'web01',
              folder: 'Web',
              datastore: 'vmfs1',
              ip: '10.0.0.11',
              hostName: 'web01.lab',
              disks: [{ size: '16MiB', content: 'random' }],
            },
            { name: 'off', datastore: 'vmfs1', power: 'poweredOff', disks: [{ size: '8MiB', content: 'random' }] },
            { name: 'twin', folder: 'Web', datastore: 'vmfs1', power: 'poweredOff', disks: [{ size: '8MiB' }] },
            { name: 'twin', folder: 'Odd/Deep er', datastore: 'vmfs1', power: 'poweredOff', disks: [{ size: '8MiB' }] },
          ],
        },
      ],
    },
  })
  vsphere = await session.connect()
  tools = vcbTools(session)
})
afterAll(() => session[Symbol.asyncDispose]())

const run: VcbTools['run'] = (...words) => tools.run(...words)
const runWith: VcbTools['runWith'] = (...words) => tools.runWith(...words)
const out: VcbTools['out'] = (...words) => tools.out(...words)
const readSecretOf = async (path: string): Promise<string> => (await readFile(path, 'utf8')).trim()
const snapshotsOf = async (vm: string): Promise<readonly { readonly name: string }[]> =>
  (await session.lab.control.state()).vms.find(({ name }) => name === vm)?.snapshots ?? []

describe('vcbVmName', () => {
  test('prints a block of key:value lines for each VM found', async () => {
    const [web] = await findVms(vsphere, { by: 'dns', name: 'web01.lab' })
    const state = (await session.lab.control.state()).vms
    expect(await out('vcbVmName', '-s', 'name:web01')).toMatch(
      new RegExp(`^Found VM:\\nmoref:${web?.value}\\nname:web01\\nuuid:[0-9a-f-]{36}\\nipaddr:10\\.0\\.0\\.11\\n$`),
    )
    expect(morefs(await out('vcbVmName', '-sAny', '-L', '0'))).toHaveLength(state.length)
    expect(await out('vcbVmName', '-s', 'powerstate:off')).not.toContain('ipaddr:')
    expect(morefs(await out('vcbVmName', '-s', 'powerstate:on'))).toEqual([web?.value])
    expect(morefs(await out('vcbVmName', '-s', 'ipaddr:10.0.0.11'))).toEqual([web?.value])
    expect(morefs(await out('vcbVmName', '-s', 'IPADDR:web01.lab'))).toEqual([web?.value])
    expect(morefs(await out('vcbVmName', '-s', `moref:${web?.value}`))).toEqual([web?.value])
    expect(morefs(await out('vcbVmName', '-s', 'name:twin'))).toHaveLength(2)
    const [uuid] = /(?<=^uuid:).*/m.exec(await out('vcbVmName', '-s', 'name:off')) ?? []
    expect(await out('vcbVmName', '-s', `uuid:${uuid?.replaceAll('-', '').toUpperCase()}`)).toContain('name:off\n')
  })

  test('names are exact, and nothing found is a failure', async () => {
    for (const text of ['name:WEB01', 'name:web*', 'ipaddr:10.9.9.9', 'moref:vm-99999'])
      expect(await run('vcbVmName', '-s', text)).toMatchObject({ exit: 5, out: '' })
    expect(await run('vcbVmName', '-s', 'web01')).toMatchObject({ exit: 2, out: '' })
    expect(await run('vcbVmName')).toMatchObject({ exit: 2, out: expect.stringContaining('Usage: vcbVmName') })
    expect(await run('vcbVmName', '-Z')).toMatchObject({ exit: 2, err: expect.stringContaining('has no flag -Z') })
  })

  test('of a host', async () => {
    const { url, thumbprint } = session.lab.endpoints.esxi
    const environment = { VCB_VCENTER: undefined, VCB_THUMBPRINT: thumbprint }
    const result = await runWith(environment, 'vcbVmName', '-h', new URL(url).host, '-s', 'name:web01')
    expect(result).toMatchObject({ exit: 0, err: '' })
    expect(await runWith(environment, 'vcbVmName', '-h', new URL(url).host, '-s', `moref:${morefs(result.out)[0]}`)).toMatchObject({
      exit: 0,
      out: result.out,
    })
  })
})

describe('login', () => {
  test('-p is refused with what to do, and taken where vcb.yaml allows it', async () => {
    const password = session.environment['VCB_PASSWORD_FILE'] ?? ''
    const without = { VCB_PASSWORD_FILE: undefined }
    const secret = await readSecretOf(password)
    const refused = await runWith(without, 'vcbVmName', '-p', secret, '-s', 'name:web01')
    expect(refused).toMatchObject({ exit: 2, out: '', err: expect.stringMatching(/can be read by every user.*\n.*VCB_PASSWORD_FILE/) })
    expect(refused.err).not.toContain(secret)
    const file = join(session.directory, 'allow.yaml')
    await writeFile(file, 'vcbTools:\n  passwordArgument: true\n')
    expect(await runWith({ ...without, VCB_CONFIG: file }, 'vcbVmName', '-p', secret, '-s', 'name:web01')).toMatchObject({ exit: 0 })
    expect(await runWith({ ...without, VCB_CONFIG: file }, 'vcbVmName', '-p', `${secret}x`, '-s', 'name:web01')).toMatchObject({ exit: 4 })
  })

  test('config.js and backuptools.conf say who and where, and hold a password only for their owner', async () => {
    const { host, hostname, port } = new URL(session.lab.endpoints.vcenter.url)
    const secret = await readSecretOf(session.environment['VCB_PASSWORD_FILE'] ?? '')
    const js = join(session.directory, 'config.js')
    const conf = join(session.directory, 'backuptools.conf')
    const bare = { VCB_VCENTER: undefined, VCB_USER: undefined, VCB_PASSWORD_FILE: undefined }
    await writeFile(
      js,
      `// the proxy\nHOST="${hostname}";\nPORT="${port}";\nUSERNAME=${JSON.stringify(session.lab.user)};\nPASSWORD=${JSON.stringify(secret)};\nVM_LOOKUP_METHOD="name";\n`,
    )
    await writeFile(conf, `VCHOST=${host}\nUSERNAME=${session.lab.user}\nPASSWORD=${secret}\n`)
    for (const [variable, file] of [
      ['VCB_CONFIG_JS', js],
      ['VCB_BACKUPTOOLS_CONF', conf],
    ] as const) {
      const environment = { ...bare, [variable]: file }
      await chmod(file, 0o644)
      expect(await runWith(environment, 'vcbUtil', '-c', 'ping')).toMatchObject({ exit: 3, err: expect.stringMatching(/chmod 600/) })
      await chmod(file, 0o600)
      expect(await runWith(environment, 'vcbUtil', '-c', 'ping')).toMatchObject({ exit: 0, err: '' })
    }
    expect(await runWith({ ...bare, VCB_CONFIG_JS: js }, 'vcbVmName', '-s', 'web01')).toMatchObject({ exit: 0 })
    await writeFile(js, 'USERNAME="__sspi__";\n')
    expect(await runWith({ ...bare, VCB_CONFIG_JS: js }, 'vcbUtil', '-c', 'ping')).toMatchObject({
      exit: 3,
      err: expect.stringContaining('__sspi__'),
    })
    await writeFile(js, 'HOST=WScript.Arguments(0);\n')
    expect(await runWith({ ...bare, VCB_CONFIG_JS: js }, 'vcbUtil', '-c', 'ping')).toMatchObject({
      exit: 3,
      err: expect.stringContaining('read, not executed'),
    })
  })
})

describe('vcbUtil', () => {
  test('tells where the login was, and the paths a catalog may name', async () => {
    expect(await out('vcbUtil', '-c', 'ping')).toMatch(/^.+ at .+, logged in as .+\n$/)
    expect(await out('vcbUtil', '-s', 'vmfolders')).toBe('/DC1/vm\n/DC1/vm/Odd\n/DC1/vm/Odd/Deep er\n/DC1/vm/Web\n')
    expect(await out('vcbUtil', '-c', 'resourcepools')).toBe('/DC1/host/C1/Resources\n/DC1/host/C1/Resources/Gold\n')
    const { url, thumbprint } = session.lab.endpoints.esxi
    const pools = await runWith({ VCB_VCENTER: url, VCB_THUMBPRINT: thumbprint }, 'vcbUtil', '-c', 'resourcepools')
    expect(pools.out).toMatch(/^\/ha-folder-root\/ha-datacenter\/host\/[^/]+\/Resources$/m)
    expect(await run('vcbUtil', '-c', 'reboot')).toMatchObject({ exit: 2, out: '' })
  })
})

describe('vcbSnapshot', () => {
  test('makes, finds, lists and removes a snapshot of the user’s, which neither recovery nor orphans take for ours', async () => {
    const [vm = ''] = morefs(await out('vcbVmName', '-s', 'name:web01'))
    const made = await out('vcbSnapshot', '-c', vm, 'before patch', 'by the nightly script')
    expect(made).toMatch(/^SsId:\S+\n$/)
    const id = made.trim().slice('SsId:'.length)
    expect(await snapshotsOf('web01')).toMatchObject([{ name: 'before patch' }])
    expect(await out('vcbSnapshot', '-f', vm, 'before patch')).toBe(made)
    expect(await out('vcbSnapshot', '-l', vm)).toMatch(
      /^SsId:\S+\nname:before patch\ncreated:\S+\nquiesced:yes\ndescription:Made with vcbSnapshot/,
    )
    expect(await out('vcbSnapshot', '-i', 'name:web01', `ssid:${id}`)).toBe(await out('vcbSnapshot', '-l', vm))
    // Nothing of ours: no job holds it, and nobody takes it away.
    expect(await session.json(['status'])).toMatchObject({ leftOver: [] })
    await session.json(['recover'])
    expect(await session.json(['orphans', '--remove'])).toMatchObject({ clean: true, orphans: [] })
    // A backup beside it works, and leaves it.
    await session.json(['backup', 'web01', '--init'])
    expect(await snapshotsOf('web01')).toMatchObject([{ name: 'before patch' }])
    // Of two of one name the one that was named goes.
    const again = await out('vcbSnapshot', '-c', vm, 'before patch')
    expect(await out('vcbSnapshot', '-f', vm, 'before patch')).toBe(made + again)
    expect(await out('vcbSnapshot', '-d', vm, again.trim())).toBe('')
    expect(await out('vcbSnapshot', '-f', vm, 'before patch')).toBe(made)
    expect(await out('vcbSnapshot', '-d', vm, `ssid:${id}`)).toBe('')
    expect(await snapshotsOf('web01')).toEqual([])
    expect(await run('vcbSnapshot', '-d', vm, `ssid:${id}`)).toMatchObject({ exit: 5 })
    expect(await run('vcbSnapshot', '-f', vm, 'before patch')).toMatchObject({ exit: 5, out: '' })
    await session.expectClean()
  })

  test('leaves alone what is a job’s or another product’s, but removes one of that name that it made itself', async () => {
    const [vm = ''] = morefs(await out('vcbVmName', '-s', 'name:off'))
    const moref = { type: 'VirtualMachine', value: vm }
    const ours = `vcb-proxy ${'a'.repeat(24)}`
    expect(await run('vcbSnapshot', '-c', vm, ours)).toMatchObject({ exit: 2, err: expect.stringContaining('is a name that vcb gives') })
    expect(await run('vcbSnapshot', '-c', vm, '')).toMatchObject({ exit: 2 })
    const own = await out('vcbSnapshot', '-c', vm, '_VCB-BACKUP_')
    await out('vcbSnapshot', '-d', vm, own.trim())
    for (const [name, message] of [
      [ours, 'made by a job of vcb'],
      ['_VCB-BACKUP_', 'bears the name of VMware Consolidated Backup'],
    ] as const) {
      const { value } = await createSnapshot(vsphere, moref, { name, description: '' })
      expect(await run('vcbSnapshot', '-d', vm, `ssid:${value}`)).toMatchObject({ exit: 6, err: expect.stringContaining(message) })
      expect(await snapshotsOf('off')).toMatchObject([{ name }])
      await removeSnapshot(vsphere, { type: 'VirtualMachineSnapshot', value })
    }
  })

  test('one VM only, and one mode only', async () => {
    expect(await run('vcbSnapshot', '-c', 'name:twin', 'x')).toMatchObject({ exit: 2, err: expect.stringContaining('names 2 VMs') })
    expect(await run('vcbSnapshot', '-c', 'vm-99999', 'x')).toMatchObject({ exit: 5 })
    expect(await run('vcbSnapshot', '-l', 'vm-1', '-f', 'vm-1')).toMatchObject({ exit: 2 })
    expect(await run('vcbSnapshot', '-f', 'name:web01')).toMatchObject({ exit: 2, err: expect.stringContaining('needs the name') })
  })
})

test('a script as they were published, unchanged, with the commands on its PATH', async () => {
  const { host } = new URL(session.lab.endpoints.vcenter.url)
  const { stdout } = await tools.script(SCRIPT, host, session.lab.user, 'web01')
  expect(stdout).toMatch(/^web01 is vm-\d+, uuid [0-9a-f-]{36}\nsnapshot \S+ made and found\ndone\n$/)
  expect(await snapshotsOf('web01')).toEqual([])
  await session.expectClean()
})

/** As scripts of the time went about it: grep, cut, and trust in exit statuses. */
const SCRIPT = `#!/bin/sh
set -e
VCHOST=$1; USERNAME=$2; VM=$3
vcbUtil -h $VCHOST -u $USERNAME -c ping > /dev/null
INFO=$(vcbVmName -h $VCHOST -u $USERNAME -L 0 -s "name:$VM")
MOREF=$(echo "$INFO" | grep '^moref:' | cut -d: -f2)
UUID=$(echo "$INFO" | grep '^uuid:' | cut -d: -f2)
echo "$VM is $MOREF, uuid $UUID"
if vcbSnapshot -h $VCHOST -u $USERNAME -f $MOREF nightly > /dev/null 2>&1; then echo "left over" >&2; exit 1; fi
SSID=$(vcbSnapshot -h $VCHOST -u $USERNAME -c $MOREF nightly | grep 'SsId:' | cut -d: -f2)
test "$(vcbSnapshot -h $VCHOST -u $USERNAME -f $MOREF nightly)" = "SsId:$SSID"
echo "snapshot $SSID made and found"
vcbSnapshot -h $VCHOST -u $USERNAME -d $MOREF ssid:$SSID
echo done
`
