/**
 * Rank 2. A selection expression becomes VMs; a VM becomes a `VmConfig`; a `VmConfig` becomes the disks that can be protected and the
 * reasons for those that cannot.
 *
 * Expression: `web1` (exact name), `web*` (glob), `folder:/DC/vm/prod` (recursive), `tag:gold`, `uuid:…`, `moref:vm-57`, `ip:…`, `name:…`
 * (literal), `power:on|off|suspended`; comma and blank between terms mean union, a leading `!` excludes, `\` makes the next character literal.
 * The VCB commands have a language of their own, the search specification.
 */
export { describeVm } from './description.ts'
export { parseExpressions, parseUuid, type Term } from './expression.ts'
export { resourcePoolPaths, vmFolderPaths } from './inventory-paths.ts'
export { globMatcher } from './pattern.ts'
export { type Protection, protectionOf } from './protection.ts'
export {
  findBySpecification,
  findOneBySpecification,
  type FoundVm,
  LOOKUP_METHODS,
  type LookupMethod,
  parseSearchSpecification,
  type SearchSpecification,
} from './search-specification.ts'
export { selectVms } from './selection.ts'
export { listVms, type VmRow } from './vm-rows.ts'
export { locateVms, type VmPlace } from './vm-places.ts'
