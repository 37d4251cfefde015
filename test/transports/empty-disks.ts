import { readFile, stat } from 'node:fs/promises'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { describeVm } from '../../src/inventory/index.ts'
import { type FaultRule, type Lab, startLab } from '../../src/lab/index.ts'
import type { TargetDisk } from '../../src/transport/index.ts'
import {
  connectVsphere,
  createVirtualDisk,
  findPlacement,
  makeDirectory,
  openDatastoreFiles,
  registerVm,
  type Vsphere,
} from '../../src/vsphere/index.ts'

/** A lab in which VMs with one empty disk are made as a restore makes them. */
export type EmptyDisks = AsyncDisposable & {
  readonly lab: Lab
  readonly vsphere: Vsphere
  /** A VM that is off, with one empty disk of `size` bytes (a multiple of 1024). */
  make(size: number, options?: { readonly thin?: boolean }): Promise<TargetDisk>
  /** The same disk as vSphere describes it now. */
  again(target: TargetDisk): Promise<TargetDisk>
  /** Local paths of the disk's descriptor and of its extent. */
  files(target: TargetDisk): { readonly descriptor: string; readonly flat: string }
  image(target: TargetDisk): Promise<Buffer>
  /** Bytes the disk takes up on its datastore. */
  allocated(target: TargetDisk): Promise<number>
  faulty<T>(rule: FaultRule, work: () => Promise<T>): Promise<T>
}

/** `scenario` adds to the lab's one host and one datastore, `v6`. */
export async function openEmptyDisks(scenario: object = {}): Promise<EmptyDisks> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-empty-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const lab = stack.use(
    await startLab({
      directory,
      scenario: {
        taskMs: 0,
        datacenters: [{ name: 'DC', hosts: [{ name: 'esx1' }], datastores: [{ name: 'v6', type: 'VMFS6' }], vms: [] }],
        ...scenario,
      },
    }),
  )
  const vsphere = stack.use(
    await connectVsphere({
      url: lab.endpoints.vcenter.url,
      user: lab.user,
      password: new Secret((await readFile(lab.passwordFile, 'utf8')).trim()),
      trust: { thumbprint: lab.endpoints.vcenter.thumbprint },
      clock: systemClock,
      log: silentLog,
    }),
  )
  const { datacenter, folder, pool, host } = await findPlacement(vsphere, { datastore: 'v6' })
  const describe = async (moref: string, name: string): Promise<TargetDisk> => {
    const config = await describeVm(vsphere, {
      moref,
      name,
      instanceUuid: '',
      biosUuid: '',
      vcenterUuid: vsphere.about.instanceUuid,
      path: `/DC/vm/${name}`,
    })
    const [disk] = config.disks
    if (disk === undefined) throw new Error(`${name} has no disk`)
    return { config, disk }
  }
  let made = 0
  const resources = stack.move()
  const files: EmptyDisks['files'] = ({ disk }) => {
    const descriptor = join(lab.datastores['v6'] ?? '', disk.fileName.replace('[v6] ', ''))
    return { descriptor, flat: descriptor.replace(/\.vmdk$/, '-flat.vmdk') }
  }
  return {
    lab,
    vsphere,
    make: async (size, { thin = true } = {}) => {
      const name = `empty-${++made}`
      const path = `[v6] ${name}`
      await makeDirectory(vsphere, datacenter.moref, path)
      const disk = { diskType: thin ? 'thin' : 'preallocated', adapterType: 'lsiLogic', capacityBytes: size } as const
      await createVirtualDisk(vsphere, datacenter.moref, `${path}/${name}.vmdk`, disk)
      const text = Buffer.from(vmxOf(name))
      await openDatastoreFiles(vsphere, datacenter).upload(`${path}/${name}.vmx`, () => once(text), text.length)
      const vm = await registerVm(vsphere, { folder, pool, host: host.moref }, `${path}/${name}.vmx`, name)
      return describe(vm.value, name)
    },
    again: ({ config }) => describe(config.vm.moref, config.vm.name),
    files,
    image: (target) => readFile(files(target).flat),
    allocated: async (target) => (await stat(files(target).flat)).blocks * 512,
    faulty: async (rule, work) => {
      const id = await lab.control.fault(rule)
      try {
        return await work()
      } finally {
        await lab.control.clearFaults(id)
      }
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}

const vmxOf = (name: string): string =>
  Object.entries({
    '.encoding': 'UTF-8',
    'config.version': '8',
    'virtualHW.version': '19',
    displayName: name,
    guestOS: 'otherlinux-64',
    memsize: '64',
    'scsi0.present': 'TRUE',
    'scsi0.virtualDev': 'pvscsi',
    'scsi0:0.present': 'TRUE',
    'scsi0:0.deviceType': 'scsi-hardDisk',
    'scsi0:0.fileName': `${name}.vmdk`,
  })
    .map(([key, value]) => `${key} = "${value}"\n`)
    .join('')

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}
