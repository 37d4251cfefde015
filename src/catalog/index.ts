/**
 * Rank 2. The list of restore points over all repositories, so that "which points are there" needs no repository to answer.
 * Always rebuildable; never asked whether a point is complete: that is the repository's to say.
 */
export type { Catalog, PointQuery } from './catalog.ts'
export { openPgCatalog } from './pg-catalog.ts'
export { openSqliteCatalog } from './sqlite-catalog.ts'
