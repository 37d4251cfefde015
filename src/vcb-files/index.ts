/**
 * Rank 1. The text files of VMware Consolidated Backup, read and written: `config.js` (docs/formats/config-js.md), `backuptools.conf`
 * (docs/formats/backuptools-conf.md) and an export's `catalog` (docs/formats/catalog.md). Pure: bytes in, values out; nothing is executed.
 */
export { formatBackuptoolsConf, parseBackuptoolsConf } from './backuptools-conf.ts'
export { Catalog, type CatalogFacts, type CatalogRewrite } from './catalog.ts'
export { formatConfigJs, parseConfigJs } from './config-js.ts'
