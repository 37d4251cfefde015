import { basename, dirname, join } from 'node:path'

/** Where the parts of an export are found: its directory as one absolute path, and the repository it is a point of. */
export const exportPlace = (directory: string): { readonly url: string; readonly point: string; readonly catalog: string } => ({
  url: `vcb:${dirname(directory)}`,
  point: basename(directory),
  catalog: join(directory, 'catalog'),
})
