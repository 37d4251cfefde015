import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { localDiskFiles, openChain } from '../../src/disk/index.ts'
import { Catalog } from '../../src/vcb-files/index.ts'
import { digestOfFile, type LabSession, openLabSession } from './lab-session.ts'
import { morefs, type VcbTools, vcbTools } from './vcb-tools.ts'

/* Exports of the VCB commands and their way back, against one lab: bytes, names, what -U removes and what it does not, alternate catalogs. */
let session: LabSession
let tools: VcbTools

beforeAll(async () => {
  session = await openLabSession({
    scenario: {
      name: 'vcb-export',
      seed: 13,
      recordDigests: true,
      datacenters: [
        {
          name: 'DC1',
          clusters: [{ name: 'C1', hosts: [{ name: 'esx1.lab' }], resourcePools: ['Gold'] }],
          hosts: [{ name: 'esx3.lab' }],
          networks: ['VM Network'],
          folders: ['Web', 'Restored'],
          datastores: [
            { name: 'vmfs1', type: 'VMFS6', capacity: '1TiB' },
            { name: 'restore1', type: 'VMFS6', capacity: '1TiB' },
          ],
          vms: [
            {
              name: 'web01',
              folder: 'Web',
              host: 'esx1.lab',
              datastore: 'vmfs1',
              workload: 10,
              disks: [{ size: '16MiB', content: 'random' }, { size: '8MiB' }],
            },
            { name: 'off', host: 'esx1.lab', datastore: 'vmfs1', power: 'poweredOff', disks: [{ size: '8MiB', content: 'random' }] },
          ],
        },
      ],
    },
  })
  tools = vcbTools(session)
})
afterAll(() => session[Symbol.asyncDispose]())

const place = (...names: readonly string[]): string => join(session.directory, ...names)

/** SHA-256 of each exported disk by its label, read through its descriptor whatever its format. */
async function digestsOf(directory: string): Promise<Map<string, string>> {
  const catalog = Catalog.parse(await readFile(join(directory, 'catalog')), 'catalog')
  const digests = new Map<string, string>()
  for (const [key, file] of catalog) {
    const label = /^disk\.(.*)\.filename$/.exec(key)?.[1]
    if (label === undefined) continue
    await using disk = await openChain(join(directory, file), localDiskFiles())
    const bytes = Buffer.alloc(disk.size)
    await disk.read(0, bytes)
    const raw = place(`raw-${digests.size}`)
    await writeFile(raw, bytes)
    digests.set(label, await digestOfFile(raw))
  }
  return digests
}

describe('vcbMounter', () => {
  test.each([
    ['-M', '1', '-F', '1', /-flat\.vmdk$/],
    ['-M', '0', '-F', '0', /-s001\.vmdk$/],
    ['-M', '1', '-F', '0', /^scsi0-0-0-web01\.vmdk$/],
  ] as const)(
    'exports a running VM with %s %s %s %s: VCB’s names, a catalog, the bytes of its snapshot',
    async (m, mono, f, flat, named) => {
      const directory = place(`export-${mono}${flat}`)
      expect(
        await tools.run('vcbMounter', '-a', 'name:web01', '-r', directory, '-t', 'fullvm', '-m', 'san', m, mono, f, flat),
      ).toMatchObject({
        exit: 0,
        out: '',
      })
      const files = await readdir(directory)
      expect(files).toEqual(expect.arrayContaining(['catalog', 'web01.vmx', 'scsi0-0-0-web01.vmdk', 'scsi0-1-0-web01_1.vmdk']))
      expect(files.filter((file) => named.test(file)).length).toBeGreaterThan(0)
      expect(await digestsOf(directory)).toEqual(await session.frozenDigests('web01'))
      const catalog = Catalog.parse(await readFile(join(directory, 'catalog')), 'catalog')
      expect(Object.fromEntries(catalog)).toMatchObject({
        display_name: 'web01',
        host: 'esx1.lab',
        folderpath: '/DC1/vm/Web',
        state: 'poweredOn',
      })
      await session.expectClean()
      expect(await tools.run('vcbMounter', '-a', 'name:web01', '-r', directory)).toMatchObject({
        exit: 6,
        err: expect.stringContaining('is not empty'),
      })
      expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 0, out: '' })
      expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 0, out: '' })
      expect((await readdir(session.directory)).filter((name) => name.includes('export-'))).toEqual([])
    },
  )

  test.each([
    ['1', '1', 'flat'],
    ['0', '0', 'split-sparse'],
    ['1', '0', 'streamOptimized'],
  ])('-M %s -F %s writes the same bytes as "vcb mount --type export" in %s', async (mono, flat, format) => {
    const directory = place(`same-${format}`)
    await tools.out('vcbMounter', '-a', 'name:web01', '-r', directory, '-M', mono, '-F', flat)
    const point = ['--repo', `vcb:${session.directory}`]
    const again = place('again')
    const mounted = await session.json(['mount', `point:same-${format}`, again, ...point, '--type', 'export', '--export-format', format])
    const names: string[] = mounted.files.map((file: { name: string }) => file.name).sort()
    const ours = /^(?:manifest\.json|SHA256SUMS|.*\.sha256blocks)$/
    expect(names).toEqual((await readdir(directory)).filter((name) => !ours.test(name)).sort())
    for (const name of names)
      expect([name, await digestOfFile(join(again, name))]).toEqual([name, await digestOfFile(join(directory, name))])
    // The VMX names what lies beside it.
    expect(await readFile(join(again, 'web01.vmx'), 'utf8')).toContain('scsi0:1.fileName = "scsi0-1-0-web01_1.vmdk"')
    await session.json(['unmount', mounted.lease])
    await tools.out('vcbMounter', '-U', '-r', directory, '-Q')
    await session.expectClean()
  })

  test('-U removes an export only when it is one, and holds nothing else', async () => {
    const directory = place('kept')
    await tools.out('vcbMounter', '-a', 'name:off', '-r', directory, '-Q')
    await writeFile(join(directory, 'notes.txt'), 'mine')
    expect(await tools.run('vcbMounter', '-U', '-r', directory)).toMatchObject({ exit: 6, err: expect.stringContaining('notes.txt') })
    expect(await readdir(directory)).toContain('catalog')
    await mkdir(place('other'))
    await writeFile(place('other', 'important'), 'mine')
    expect(await tools.run('vcbMounter', '-U', '-r', place('other'))).toMatchObject({
      exit: 6,
      err: expect.stringContaining('no complete export'),
    })
    expect(await readdir(place('other'))).toEqual(['important'])
  })

  test('PREEXISTING_MOUNTPOINT of config.js: an export that is there is replaced, anything else is not', async () => {
    await writeFile(place('config.js'), 'PREEXISTING_MOUNTPOINT="delete";\nVM_LOOKUP_METHOD="name";\n')
    const argv = ['-a', 'off', '-r', place('nightly'), '-Q'] as const
    const mounter = () => tools.runWith({ VCB_CONFIG_JS: place('config.js') }, 'vcbMounter', ...argv)
    await mkdir(place('nightly'))
    for (let night = 0; night < 2; night++) expect(await mounter()).toMatchObject({ exit: 0, out: '', err: '' })
    await writeFile(place('nightly', 'notes.txt'), 'mine')
    expect(await mounter()).toMatchObject({ exit: 6, err: expect.stringContaining('notes.txt') })
    expect(await readFile(place('nightly', 'notes.txt'), 'utf8')).toBe('mine')
    expect(await digestsOf(place('nightly'))).toEqual(await session.frozenDigests('off'))
    await rm(place('nightly'), { recursive: true })
    await session.expectClean()
  })

  test('refuses what it cannot do, and leaves nothing', async () => {
    for (const argv of [
      ['-r', place('no')],
      ['-a', 'name:web01'],
      ['-a', 'any:', '-r', place('no')],
      ['-a', 'name:web01', '-r', place('no'), '-m', 'carrier-pigeon'],
      ['-a', 'name:web01', '-r', place('no'), '-M', '2'],
      ['-a', 'name:web01', '-r', place('no'), '-t', 'tape'],
    ])
      expect(await tools.run('vcbMounter', ...argv)).toMatchObject({ exit: 2, out: '' })
    expect(await readdir(session.directory)).not.toContain('no')
    await session.expectClean()
  })
})

test('vcbSnapAll exports all that are named, each into a directory of its own', async () => {
  const directory = place('all')
  const listed = await tools.out('vcbSnapAll', '-a', 'any:', '-r', directory, '-M', '1', '-F', '1')
  expect(listed.trim().split('\n').sort()).toEqual([join(directory, 'off'), join(directory, 'web01')])
  for (const vm of ['off', 'web01']) expect(await digestsOf(join(directory, vm))).toEqual(await session.frozenDigests(vm))
  // Once more: both are in the way, and stay as they were.
  expect(await tools.run('vcbSnapAll', '-a', 'any:', '-r', directory)).toMatchObject({ exit: 6, out: '' })
  expect(await tools.run('vcbSnapAll', '-a', 'powerstate:suspended', '-r', directory)).toMatchObject({ exit: 5 })
  // An export is a restore point: every block of it can be proven.
  expect(await session.json(['check', 'off', '--repo', `vcb:${directory}`])).toMatchObject({ problems: [] })
  await session.expectClean()
})

test('vcbRestore goes by the catalog, or by an edited copy of it', async () => {
  const directory = place('back')
  await tools.out('vcbMounter', '-a', 'name:off', '-r', directory, '-M', '1', '-F', '1')
  const wanted = await session.frozenDigests('off')
  expect(await tools.run('vcbRestore', '-s', directory)).toMatchObject({ exit: 6, err: expect.stringContaining('There is a VM named off') })
  expect(await tools.run('vcbRestore', '-s', directory, '-b', 'skip')).toMatchObject({
    exit: 0,
    err: expect.stringContaining('is there already'),
  })
  // As the guides of the time did it: a copy, and a stream editor over it.
  const { stdout, stderr } = await tools.script(
    `sed -e 's/^host=.*/host= "esx3.lab"/' -e 's/\\[vmfs1\\]/[restore1]/' -e 's/^display_name=.*/display_name= "copy of off"/' \
-e 's#^folderpath=.*#folderpath= "/DC1/vm/Restored"#' back/catalog > altcatalog && vcbRestore -s back -a altcatalog && vcbVmName -s 'name:copy of off'`,
  )
  expect(morefs(stdout)).toHaveLength(1)
  expect(stderr).toContain('Restored copy of off (vm-')
  expect(stderr).toContain('on datastore restore1')
  expect((await session.lab.control.state()).vms.find(({ name }) => name === 'copy of off')).toMatchObject({ host: 'esx3.lab' })
  const digests = await session.lab.control.sha256('copy of off')
  expect(digests.map(({ sha256 }) => sha256)).toEqual([...wanted.values()])
  // Over the old one, which is powered off: it comes back as itself.
  expect(await tools.run('vcbRestore', '-s', directory, '-b', 'overwrite', '-q')).toMatchObject({ exit: 0, out: '', err: '' })
  expect((await session.lab.control.sha256('off')).map(({ sha256 }) => sha256)).toEqual([...wanted.values()])
  await writeFile(place('bad'), 'host= "nowhere.lab"\n')
  expect(await tools.run('vcbRestore', '-s', directory, '-a', place('bad'))).toMatchObject({
    exit: 5,
    err: expect.stringContaining('wanted host'),
  })
  await session.expectClean()
})

test('vcbCleanup releases what a killed vcbMounter left, and asks nothing', async () => {
  const command = join(import.meta.dirname, '..', '..', 'scripts', 'vcbMounter.cjs')
  const child = spawn(process.execPath, [command, '-a', 'name:web01', '-r', place('killed'), '-M', '1', '-F', '1'], {
    env: { ...process.env, ...session.environment, VCB_BANDWIDTH: '1MiB/s' },
    stdio: 'ignore',
  })
  const ended = once(child, 'exit')
  await expect.poll(() => readdir(session.directory), { timeout: 15_000 }).toContainEqual(expect.stringMatching(/^\.web01\..*\.partial$/))
  child.kill('SIGKILL')
  await ended
  expect(await readdir(session.directory)).not.toContain('killed')
  expect((await session.lab.control.state()).vms.find(({ name }) => name === 'web01')?.snapshots).toHaveLength(1)
  expect(await tools.run('vcbCleanup', '-h', 'x')).toMatchObject({ exit: 2 })
  expect(await tools.run('vcbCleanup', '-y')).toMatchObject({ exit: 0, out: '' })
  expect((await readdir(session.directory)).filter((name) => name.includes('.partial'))).toEqual([])
  await session.expectClean()
})

test('a script as they were published: vcbVmName, its moref, vcbMounter, a copy, unmount', async () => {
  const { host } = new URL(session.lab.endpoints.vcenter.url)
  const { stdout } = await tools.script(SCRIPT, host, session.lab.user, 'web01', place('mnt'), place('tape'))
  expect(stdout).toBe('web01 copied\n')
  expect(await readdir(session.directory)).not.toContain('mnt')
  expect(await digestsOf(place('tape'))).toEqual(await session.frozenDigests('web01'))
  await session.expectClean()
})

const SCRIPT = `#!/bin/sh
# image backup of one VM by its display name
set -e
VCHOST=$1; USERNAME=$2; VM=$3; MOUNT=$4; TARGET=$5
MOREF=$(vcbVmName -h $VCHOST -u $USERNAME -s name:"$VM" -L 0 | grep moref: | sed -e 's/^moref://')
[ -n "$MOREF" ] || { echo "no such VM: $VM" >&2; exit 1; }
if ! vcbMounter -h $VCHOST -u $USERNAME -a moref:$MOREF -r "$MOUNT" -t fullvm -m san -M 1 -F 1 -L 1 > vcb.out 2> vcb.err; then
  cat vcb.err >&2
  exit 1
fi
cp -r "$MOUNT" "$TARGET"
vcbMounter -h $VCHOST -u $USERNAME -U -r "$MOUNT" > vcb.out 2> vcb.err
vcbCleanup -h $VCHOST -u $USERNAME -y
echo "$VM copied"
`
