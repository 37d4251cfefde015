/** What another product, or VMware itself, calls the snapshots it leaves when it dies. */
export type SnapshotProduct = {
  readonly product: string
  /** A snapshot's whole name. */
  readonly name: RegExp
  /** Where the name is documented. */
  readonly source: string
}

/**
 * Only names that public documentation or public code bears out; a product that lets its users choose the name, or whose name we found
 * nowhere, is not here. Matching snapshots are listed with their age and never touched: their products may be using them.
 */
export const SNAPSHOT_PRODUCTS: readonly SnapshotProduct[] = Object.freeze([
  {
    product: 'VMware Consolidated Backup',
    name: /^_VCB-BACKUP_$/,
    source: 'CA ARCserve Backup r16 help, "How the Agent Names Mount Points"; ManageIQ/manageiq-providers-vmware#485',
  },
  { product: 'Veeam Backup & Replication', name: /^VEEAM BACKUP TEMPORARY SNAPSHOT$/, source: 'veeam.com/kb1790' },
  {
    product: 'Commvault',
    name: /^__GX_BACKUP__$/,
    source: 'plug-in "Backup Garbage" of alanrenouf/vCheck-vSphere; Commvault\'s own test automation',
  },
  { product: 'NetBackup', name: /^NBU_SNAPSHOT\b.*$/, source: 'plug-in "Backup Garbage" of alanrenouf/vCheck-vSphere' },
  { product: 'IBM Storage Protect (TSM)', name: /^TSM-VM Snapshot\b.*$/, source: 'atc0005/check-vmware#634' },
  { product: 'Bareos', name: /^BareosTmpSnap_jobId_\d+$/, source: 'VMware plug-in of bareos/bareos' },
  { product: 'ghettoVCB', name: /^ghettoVCB-snapshot-\d{4}-\d\d-\d\d$/, source: 'ghettoVCB.sh of lamw/ghettoVCB' },
  { product: 'NetApp SnapManager for Virtual Infrastructure', name: /^smvi.*$/, source: 'MiqVimVm.rb of ManageIQ (NETAPP_SNAPSHOT_NAME)' },
  {
    product: 'VMware consolidation',
    name: /^Consolidate Helper.*$/,
    source: 'ManageIQ/manageiq-providers-vmware#485; plug-in "Backup Garbage" of alanrenouf/vCheck-vSphere',
  },
])

/** Whose snapshot a name tells of; undefined when it may be anybody's. Names of strangers: bounded. */
export const snapshotProduct = (name: string): SnapshotProduct | undefined =>
  name.length > 200 ? undefined : SNAPSHOT_PRODUCTS.find((known) => known.name.test(name))
