import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { AgentError, type DatastoreRef, type DiskRef, MIB, systemClock, type VmConfig } from '../core/index.ts'
import { createFlatDisk } from '../disk/index.ts'
import { insideDatastore, resolveReference } from './datastore-path.ts'
import { sanTransport } from './san-transport.ts'
import type { SnapshotDisk } from './transport.ts'

const datastore = (name: string, more: Partial<DatastoreRef> = {}): DatastoreRef => ({
  moref: `datastore-${name}`,
  name,
  type: 'NFS',
  url: `ds:///vmfs/volumes/${name}-uuid/`,
  capacityBytes: 1,
  freeBytes: 1,
  accessible: true,
  ...more,
})

describe('references in descriptors', () => {
  const stores = [datastore('one'), datastore('two')]

  test('a name is beside its descriptor; a volume path names the datastore by uuid or label', () => {
    expect(resolveReference('base.vmdk', '[one] web/web-000001.vmdk', stores)).toBe('[one] web/base.vmdk')
    expect(resolveReference('/vmfs/volumes/two-uuid/x/y.vmdk', '[one] web/a.vmdk', stores)).toBe('[two] x/y.vmdk')
    expect(resolveReference('/vmfs/volumes/two/x/y.vmdk', '[one] web/a.vmdk', stores)).toBe('[two] x/y.vmdk')
    expect(resolveReference('[two] x/y.vmdk', undefined, stores)).toBe('[two] x/y.vmdk')
  })

  test.each(['../../etc/passwd', '/etc/passwd', '/vmfs/volumes/other/x.vmdk', '/vmfs/volumes/one/../../etc/passwd', 'a/../../x'])(
    '%s is refused',
    (reference) => {
      expect(() => resolveReference(reference, '[one] web/a.vmdk', stores)).toThrow(AgentError)
    },
  )

  test('whatever a descriptor says, the result is inside a known datastore or an AgentError', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc
            .array(fc.constantFrom('..', '/', 'a', '[one]', ' ', 'vmfs', 'volumes', 'one', '\0', '.'), { maxLength: 12 })
            .map((parts) => parts.join('')),
        ),
        (reference) => {
          try {
            const path = insideDatastore(resolveReference(reference, '[one] web/a.vmdk', stores))
            expect(path.path.split('/')).not.toContain('..')
          } catch (error) {
            expect(error).toBeInstanceOf(AgentError)
          }
        },
      ),
    )
  })
})

describe('san', () => {
  let directory: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'vcb-san-'))
    await mkdir(join(directory, 'ds', 'web'), { recursive: true })
    await using sink = await createFlatDisk(join(directory, 'ds', 'web'), 'web', MIB, {
      flavour: 'vmfs',
      uuid: '60 00 C2 9a 00 00 00 00-00 00 00 00 00 00 00 01',
    })
    await sink.write(4096, Buffer.from('frozen'))
    await sink.flush()
    await writeFile(join(directory, 'ds', 'web', 'web.vmsd'), 'snapshot0.displayName = "vcb-proxy 1"\n')
  })
  afterEach(() => rm(directory, { recursive: true, force: true }))

  const disk = (more: Partial<DiskRef> = {}): SnapshotDisk => {
    const vm = { moref: 'vm-1', name: 'web', instanceUuid: 'i', biosUuid: 'b', vcenterUuid: 'v', path: '/DC/vm/web' }
    return {
      disk: {
        key: 2000,
        label: 'scsi0:0',
        capacityBytes: MIB,
        backing: 'flat',
        diskMode: 'persistent',
        fileName: '[ds] web/web.vmdk',
        chain: ['[ds] web/web.vmdk'],
        uuid: '6000C29a-0000-0000-0000-000000000001',
        thin: true,
        ...more,
      },
      config: { vm, vmPathName: '[ds] web/web.vmx', datastores: [datastore('ds')] } as unknown as VmConfig,
      snapshot: { vm, moref: 's', name: 'vcb-proxy 1', createdAt: '2026-01-01T00:00:00Z', quiesced: false },
    }
  }
  const mapped = () => sanTransport({ datastores: { ds: join(directory, 'ds') }, clock: systemClock })

  test('reads the files of a mapped datastore', async () => {
    expect(await mapped().probe(disk())).toMatchObject({ ok: true })
    await using source = await mapped().open(disk())
    const into = Buffer.alloc(6)
    await source.read(4096, into)
    expect(into.toString()).toBe('frozen')
  })

  test.each([
    ['another capacity', { capacityBytes: 2 * MIB }, /2097152/],
    ['another uuid', { uuid: '6000C29a-0000-0000-0000-0000000000ff' }, /uuid/],
    ['another chain', { chain: ['[ds] web/web-000001.vmdk', '[ds] web/web.vmdk'] }, /chain/],
    ['a raw device', { backing: 'rdmPhysical' }, /rdmPhysical/],
    ['several writers', { sharing: 'sharingMultiWriter' }, /several writers/],
  ] as const)('refuses %s before a byte is trusted', async (_, change, reason) => {
    expect(await mapped().probe(disk(change))).toEqual({ ok: false, reason: expect.stringMatching(reason) })
  })

  test('refuses a datastore that is neither mapped nor mounted, and a map to nowhere', async () => {
    expect(await sanTransport({ datastores: {}, clock: systemClock }).probe(disk())).toEqual({
      ok: false,
      reason: expect.stringContaining('neither mapped'),
    })
    expect(await sanTransport({ datastores: { ds: join(directory, 'gone') }, clock: systemClock }).probe(disk())).toEqual({
      ok: false,
      reason: expect.stringContaining('does not exist'),
    })
  })

  test('does not follow a link out of the datastore', async () => {
    await writeFile(join(directory, 'secret.vmdk'), 'secret')
    await symlink(join(directory, 'secret.vmdk'), join(directory, 'ds', 'web', 'link.vmdk'))
    expect(await mapped().probe(disk({ fileName: '[ds] web/link.vmdk', chain: [] }))).toMatchObject({ ok: false })
  })
})
