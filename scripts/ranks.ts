/**
 * The house as data: who may import whom under `src/`. `scripts/check-layers.ts` holds every file to it; docs/architecture.md explains it.
 * A file imports only rooms of a lower rank, and those only through their `index.ts`.
 */
export const RANKS: Readonly<Record<string, number>> = {
  core: 0,
  vsphere: 1,
  nfc: 1,
  nbd: 1,
  fuse: 1,
  ssh: 1,
  disk: 1,
  restic: 1,
  vmx: 1,
  'vcb-files': 1,
  state: 1,
  inventory: 2,
  quiesce: 2,
  stages: 2,
  snapshot: 2,
  transport: 2,
  provider: 2,
  journal: 2,
  catalog: 2,
  history: 2,
  schedule: 2,
  mount: 3,
  orphans: 3,
  notices: 3,
  api: 4,
  flow: 4,
  agent: 5,
  cli: 6,
  console: 6,
}

/** Rooms outside the ranks: what each may import, and the only files under `src/` that may import it. */
export const ASIDE: Readonly<Record<string, { readonly mayImport: readonly string[]; readonly importedBy: readonly string[] }>> = {
  lab: { mayImport: ['core'], importedBy: ['src/cli/lab.ts'] },
}
