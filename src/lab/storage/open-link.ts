import type { Datastore } from './datastore.ts'
import { CowdLink } from './cowd-link.ts'
import type { DiskInfo } from './disk-info.ts'
import { FlatLink } from './flat-link.ts'
import type { Link } from './link.ts'
import { SeSparseLink } from './se-sparse-link.ts'
import { LabStorageError } from './storage-error.ts'

/** Opens the extent of one link in its format. InvalidDisk for a raw device mapping. */
export function openLink(datastore: Datastore, info: DiskInfo, readonly: boolean): Link {
  const subject = datastore.datastorePath(info.path)
  const options = { readonly, subject, charge: (bytes: number) => datastore.charge(bytes) }
  const file = datastore.path(info.extents[0] ?? '')
  switch (info.backing) {
    case 'flat':
      return new FlatLink(file, info.capacityBytes, info.thin, options)
    case 'sparse':
      return checked(new CowdLink(file, options), info, subject)
    case 'seSparse':
      return checked(new SeSparseLink(file, options), info, subject)
    case 'rdmPhysical':
    case 'rdmVirtual':
      throw new LabStorageError('InvalidDisk', `${subject} is a raw device mapping; the lab has no device behind it.`, subject)
  }
}

function checked(link: Link, info: DiskInfo, subject: string): Link {
  if (link.capacity === info.capacityBytes) return link
  link.close()
  throw new LabStorageError('InvalidDisk', `Header and descriptor of ${subject} differ in capacity.`, subject)
}
