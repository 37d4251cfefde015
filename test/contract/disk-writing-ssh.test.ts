import { readFile } from 'node:fs/promises'
import { Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { createSshHosts } from '../../src/ssh/index.ts'
import { sshTransport } from '../../src/transport/index.ts'
import { openEmptyDisks } from '../transports/empty-disks.ts'
import { diskWritingContract } from './disk-writing-contract.ts'

diskWritingContract(
  'ssh',
  async () => {
    await using stack = new AsyncDisposableStack()
    const world = stack.use(
      await openEmptyDisks({
        datacenters: [{ name: 'DC', hosts: [{ name: 'esx1', ssh: true }], datastores: [{ name: 'v6', type: 'VMFS6' }], vms: [] }],
      }),
    )
    const [shell] = world.lab.endpoints.ssh
    if (shell === undefined) throw new Error('the lab has no shell')
    const key = { path: world.lab.sshKeyFile, text: new Secret(await readFile(world.lab.sshKeyFile, 'utf8')) }
    const host = {
      name: 'esx1',
      address: shell.address,
      port: shell.port,
      user: 'root',
      login: async () => ({ key }),
      pin: async () => ({ fingerprints: [shell.hostKey] }),
    }
    const hosts = stack.use(createSshHosts([host], { clock: systemClock, log: silentLog }))
    const { writing } = sshTransport({ hosts, endpoint: 'nowhere', vsphere: world.vsphere })
    if (writing === undefined) throw new Error('ssh does not write')
    const held = stack.move()
    return {
      world,
      writing,
      left: async () => {
        for (let turn = 0; ; turn++) {
          const { locks } = await world.lab.control.state()
          const left = locks.filter(({ holder }) => holder === 'the shell of a host')
          if (left.length === 0 || turn > 100) return left
          await systemClock.sleep(20)
        }
      },
      [Symbol.asyncDispose]: () => held.disposeAsync(),
    }
  },
  {
    cut: { on: 'ssh:exec', object: 'python3', ssh: 'cutInput', value: 2_000_000 },
    noCapacity: 'the lab’s hosts let this machine’s python3 write into the files itself',
  },
)
