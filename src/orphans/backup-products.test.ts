import { expect, it } from 'vitest'
import { snapshotProduct, SNAPSHOT_PRODUCTS } from './backup-products.ts'

it.each([
  ['_VCB-BACKUP_', 'VMware Consolidated Backup'],
  ['VEEAM BACKUP TEMPORARY SNAPSHOT', 'Veeam Backup & Replication'],
  ['__GX_BACKUP__', 'Commvault'],
  ['NBU_SNAPSHOT web01 1498592412', 'NetBackup'],
  ['TSM-VM Snapshot Fri Mar 11 23:02:08 2022', 'IBM Storage Protect (TSM)'],
  ['BareosTmpSnap_jobId_42', 'Bareos'],
  ['ghettoVCB-snapshot-2013-12-04', 'ghettoVCB'],
  ['smvi_hourly_20120101', 'NetApp SnapManager for Virtual Infrastructure'],
  ['Consolidate Helper- 0', 'VMware consolidation'],
])('%s is a snapshot of %s', (name, product) => {
  expect(snapshotProduct(name)?.product).toBe(product)
})

it.each(['before upgrade', 'VEEAM', 'my _VCB-BACKUP_', 'ghettoVCB-snapshot-soon', '', `NBU_SNAPSHOT${'x'.repeat(1000)}`])(
  "%s may be anybody's",
  (name) => {
    expect(snapshotProduct(name)).toBeUndefined()
  },
)

it('says of every name where it is documented', () => {
  for (const { source } of SNAPSHOT_PRODUCTS) expect(source.length).toBeGreaterThan(10)
})
