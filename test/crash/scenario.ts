/**
 * The lab of the crash matrix: few VMs with tiny disks, so that a cut costs a second, but with everything a release can get wrong beside them:
 * snapshots of a user and of another product, several disks, a VM without change tracking, one that is off, one that the commands run in.
 */
export const crashScenario = {
  name: 'crash',
  seed: 303,
  recordDigests: true,
  // An agent that died during an import keeps its lease until this has passed.
  leaseTimeoutSeconds: 2,
  taskMs: 5,
  datacenters: [
    {
      name: 'DC1',
      // Its own endpoint is read-only; what goes through the vCenter does not notice.
      hosts: [{ name: 'esx1.lab', ssh: true, licence: 'free' }],
      networks: ['VM Network'],
      datastores: [
        { name: 'vmfs1', type: 'VMFS6', capacity: '1GiB' },
        { name: 'restore1', type: 'VMFS6', capacity: '1GiB' },
      ],
      vms: [
        {
          name: 'alpha',
          changeTracking: true,
          networks: [{ network: 'VM Network' }],
          disks: [{ size: '3MiB', content: 'random' }],
          snapshots: [{ name: 'before the upgrade' }, { name: 'VEEAM BACKUP TEMPORARY SNAPSHOT' }],
        },
        { name: 'beta', changeTracking: true, networks: [{ network: 'VM Network' }], disks: [{ size: '3MiB', content: 'random' }] },
        {
          name: 'gamma',
          changeTracking: true,
          disks: [
            { size: '2MiB', content: 'random' },
            { size: '3MiB', thin: false },
            { controller: 'lsilogic', bus: 1, size: '1MiB', content: 'random' },
          ],
        },
        { name: 'delta', disks: [{ size: '2MiB', content: 'random' }] },
        { name: 'proxy', proxy: true, extraConfig: { 'disk.EnableUUID': 'TRUE' }, disks: [{ size: '256KiB' }] },
        { name: 'omega', power: 'poweredOff', networks: [{ network: 'VM Network' }], disks: [{ size: '3MiB', content: 'random' }] },
      ].map((vm) => ({ datastore: 'vmfs1', ...vm })),
    },
  ],
}
